//! The network of one cluster: its own network namespace, connected to the machine by one
//! veth pair.
//!
//! Each namespace has its own bridges, ports and iptables rules, so clusters run side by
//! side and are removed completely. Outside of the namespace there is one link, named after
//! the slot, and one route. The machine's rules and sysctls are not changed. No packet from
//! the namespace leaves the machine.

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::layout::RUN;
use crate::shell;

/// A number that a state directory holds while its cluster exists. The cluster's names and
/// addresses are derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u8);

/// 10.160.0.0/16 to 10.175.0.0/16, which few machines use.
const SLOTS: u8 = 16;
const FIRST_NETWORK: u8 = 160;

impl Slot {
    #[cfg(test)]
    pub fn numbered(number: u8) -> Self {
        Self(number)
    }

    pub fn number(self) -> u8 {
        self.0
    }

    /// The slot that this state directory holds, if any.
    pub fn held_by(root: &Path) -> Option<Self> {
        (0..SLOTS)
            .map(Slot)
            .find(|slot| slot.holder().as_deref() == Some(root))
    }

    /// Returns the slot that this state directory holds, or takes a free one.
    pub fn claim(root: &Path) -> Result<Self> {
        if let Some(slot) = Self::held_by(root) {
            return Ok(slot);
        }
        fs::create_dir_all(RUN).with_context(|| format!("making {RUN}"))?;
        for slot in (0..SLOTS).map(Slot) {
            if slot.holder().is_some() || slot.is_used_by_others() {
                continue;
            }
            match std::os::unix::fs::symlink(root, slot.file()) {
                Ok(()) => return Ok(slot),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).context("claiming a slot"),
            }
        }
        bail!("all {SLOTS} places for a test cluster on this machine are taken: see {RUN}")
    }

    pub fn release(self) -> Result<()> {
        shell::ignore_missing(fs::remove_file(self.file()))
    }

    fn file(self) -> PathBuf {
        Path::new(RUN).join(format!("slot-{}", self.0))
    }

    fn holder(self) -> Option<PathBuf> {
        fs::read_link(self.file()).ok()
    }

    /// True if the machine already has a route for these addresses.
    fn is_used_by_others(self) -> bool {
        // Little-endian: 10.163.0.0 is 0000A30A.
        let network = format!("{:02X}0A", FIRST_NETWORK + self.0);
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        routes.lines().skip(1).any(|line| {
            line.split('\t')
                .nth(1)
                .is_some_and(|to| to.ends_with(&network))
        })
    }

    fn address(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, FIRST_NETWORK + self.0, third, fourth)
    }

    /// The node's address, where the API server listens.
    pub fn node(self) -> Ipv4Addr {
        self.address(255, 2)
    }

    /// The machine's own address on the link, for pods that call the machine.
    pub fn host(self) -> Ipv4Addr {
        self.address(255, 1)
    }

    /// The address of the `kubernetes` service.
    pub fn service(self) -> Ipv4Addr {
        self.address(128, 1)
    }

    /// All addresses of the cluster, as a CIDR.
    pub fn network(self) -> String {
        format!("{}/16", self.address(0, 0))
    }

    pub fn pods(self) -> String {
        format!("{}/20", self.address(0, 0))
    }

    pub fn services(self) -> String {
        format!("{}/20", self.address(128, 0))
    }

    /// The name of the link, of the network namespace and of the cgroup.
    pub fn name(self) -> String {
        format!("hutch{}", self.0)
    }

    pub fn namespace(self) -> PathBuf {
        Path::new("/run/netns").join(self.name())
    }

    /// Creates the namespace and the link, if they do not exist.
    pub fn connect(self) -> Result<()> {
        let name = self.name();
        if self.is_connected() {
            return Ok(());
        }
        self.disconnect()?;
        let host = format!("{}/30", self.host());
        let node = format!("{}/30", self.node());
        let (node_ip, all) = (self.node().to_string(), self.network());
        ip(&["netns", "add", &name])?;
        ip(&[
            "link", "add", &name, "type", "veth", "peer", "name", "node0", "netns", &name,
        ])?;
        ip(&["addr", "add", &host, "dev", &name])?;
        ip(&["link", "set", &name, "up"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        ip(&["-n", &name, "addr", "add", &node, "dev", "node0"])?;
        ip(&["-n", &name, "link", "set", "node0", "up"])?;
        // No packet leaves the machine. The sender gets an error at once.
        ip(&["-n", &name, "route", "add", "unreachable", "default"])?;
        // For pods on the node's own network: kube-proxy redirects packets to a Service only
        // if there is a route for them.
        ip(&[
            "-n",
            &name,
            "route",
            "add",
            &self.services(),
            "dev",
            "node0",
        ])?;
        ip(&["route", "add", &all, "via", &node_ip, "dev", &name])?;
        // Inside, pods and the machine reach each other through the node. Every refused packet
        // gets an answer, because name look-ups would time out otherwise.
        let settings = "cd /proc/sys/net/ipv4 && echo 1 > ip_forward && echo 0 > icmp_ratelimit";
        shell::run(
            self.enter(Command::new("nsenter"))
                .args(["sh", "-c", settings]),
        )
    }

    fn is_connected(self) -> bool {
        let name = self.name();
        let routes = shell::output(Command::new("ip").args(["route", "show", &self.network()]));
        let inside = shell::output(Command::new("ip").args(["-n", &name, "addr", "show", "node0"]));
        let node = format!("inet {}/", self.node());
        routes.is_ok_and(|text| text.contains(&format!("dev {name} ")))
            && inside.is_ok_and(|text| text.contains(&node))
    }

    /// Removes both. The bridges and rules inside disappear with the namespace.
    pub fn disconnect(self) -> Result<()> {
        let name = self.name();
        if Path::new("/sys/class/net").join(&name).exists() {
            ip(&["link", "del", &name])?;
        }
        if self.namespace().exists() {
            ip(&["netns", "del", &name])?;
        }
        Ok(())
    }

    /// Adds the arguments with which `nsenter` runs a command in the namespace.
    pub fn enter(self, mut nsenter: Command) -> Command {
        nsenter
            .arg(format!("--net={}", self.namespace().display()))
            .arg("--");
        nsenter
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    shell::run(Command::new("ip").args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_share_no_address() {
        let networks: std::collections::HashSet<_> =
            (0..SLOTS).map(|n| Slot(n).network()).collect();
        assert_eq!(networks.len(), usize::from(SLOTS));
        assert_eq!(Slot(3).network(), "10.163.0.0/16");
    }

    #[test]
    fn a_link_name_fits_into_the_kernel_limit() {
        assert!(Slot(SLOTS - 1).name().len() < 16);
    }
}
