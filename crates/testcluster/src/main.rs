//! `testcluster`.
fn main() -> anyhow::Result<()> {
    let mut options = hutch_testcluster::Options::default();
    match std::env::args().nth(1).as_deref() {
        Some("older") => { options.profile = hutch_testcluster::Profile::Older; hutch_testcluster::Cluster::up(&options)?; }
        Some("down") => hutch_testcluster::Cluster::take_down(&options)?,
        _ => { hutch_testcluster::Cluster::up(&options)?; }
    }
    Ok(())
}
