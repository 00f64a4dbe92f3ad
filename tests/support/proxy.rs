//! A TCP proxy that can become a black hole: it then accepts connections, and nothing
//! passes.

#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy to a server on this machine.
pub struct Proxy {
    pub port: u16,
    server: Arc<AtomicU16>,
    hole: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Passes everything on to that port.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let hole = watch::Sender::new(false);
        let state = hole.clone();
        let server = Arc::new(AtomicU16::new(port));
        let leads_to = Arc::clone(&server);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let port = leads_to.load(Ordering::Relaxed);
                tokio::spawn(pass(client, port, state.subscribe()));
            }
        });
        Self {
            port: own,
            server,
            hole,
            task,
        }
    }

    /// New connections lead to that port.
    pub fn lead_to(&self, port: u16) {
        self.server.store(port, Ordering::Relaxed);
    }

    /// Becomes a black hole. A connection that loses bytes in it passes nothing any more.
    pub fn swallow_all(&self) {
        self.hole.send_replace(true);
    }

    /// Ends the black hole.
    pub fn pass_all(&self) {
        self.hole.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, port: u16, hole: watch::Receiver<bool>) {
    if *hole.borrow() {
        return swallow(client).await;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let there = one_way(from_client, to_server, hole.clone());
    let back = one_way(from_server, to_client, hole);
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, hole: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 << 10];
    let mut swallowed = false;
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        swallowed |= *hole.borrow();
        if !swallowed && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn swallow(mut client: TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(1..) = client.read(&mut buffer).await {}
}
