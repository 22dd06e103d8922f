//! A real node with its gateway on a free port, in a temporary folder.

use std::net::SocketAddr;

use gateway::{Gateway, GatewayConfig};
use node::{Node, NodeConfig, Secret};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Client, Credentials};

pub(crate) const ACCESS_KEY: &str = "AKTEST";
pub(crate) const SECRET_KEY: &str = "not-so-secret-after-all";

pub(crate) struct Server {
    pub(crate) node: Node,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// In memory where the system has a file system there: these tests are about HTTP, not about the disk.
fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(folder) = tempfile::tempdir_in(memory)
    {
        folder
    } else {
        tempfile::tempdir().unwrap()
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(adjust: impl FnOnce(&mut GatewayConfig)) -> Self {
        let folder = folder();
        let node = Node::start(NodeConfig::new(folder.path().join("data"))).unwrap();
        node.put_access_key("", ACCESS_KEY, &Secret::new(SECRET_KEY.to_owned()), "tests").await.unwrap();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut config = GatewayConfig::new(any);
        config.admin = Some(any);
        adjust(&mut config);
        let gateway = Gateway::bind(config, node.clone()).await.unwrap();
        let (address, admin) = (gateway.s3_address(), gateway.admin_address().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(gateway.run(async {
            let _ = stopped.await;
        }));
        Self { node, address, admin, stop, served, _folder: folder }
    }

    /// A client with the server's key.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address, Credentials::new(ACCESS_KEY, SECRET_KEY))
    }

    /// A client, and a bucket `bkt` to use.
    pub(crate) async fn with_bucket() -> (Self, Client) {
        let server = Self::start().await;
        let client = server.client();
        client.put("/bkt").send().await.expect_status(200);
        (server, client)
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap();
        self.node.shutdown().await;
    }
}
