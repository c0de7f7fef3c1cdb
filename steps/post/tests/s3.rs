//! A gallery in S3, spoken by a real SeaweedFS that this test starts and ends.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use auria_post::gallery::{Gallery, PAGE_FILE};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use object_store::ObjectStoreExt;
use support::{all_at_once, post, shown, work};

struct SeaweedFs {
    child: Child,
    environment: Vec<(String, String)>,
}

impl SeaweedFs {
    fn start(folder: &Path) -> Self {
        let program: PathBuf = [
            env!("CARGO_MANIFEST_DIR"),
            "../../target/tools/seaweedfs/weed",
        ]
        .iter()
        .collect();
        assert!(program.exists(), "no SeaweedFS: run `cargo xtask weed`");
        let ports = free_ports::<10>();
        let names = [
            "master.port",
            "master.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "s3.port",
            "s3.port.grpc",
            "admin.port",
            "admin.port.grpc",
        ];
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new(program)
            .arg("mini")
            .arg(format!("-dir={}", folder.join("data").display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=auria"])
            .args([
                "-admin.ui=false",
                "-webdav=false",
                "-master.telemetry=false",
            ])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-filer.localSocket={}", folder.join("f").display()))
            .arg(format!("-s3.localSocket={}", folder.join("s").display()))
            .args(
                names
                    .iter()
                    .zip(ports)
                    .map(|(name, port)| format!("-{name}={port}")),
            )
            .env("AWS_ACCESS_KEY_ID", "auria")
            .env("AWS_SECRET_ACCESS_KEY", "auria-secret")
            .env("HOME", folder)
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment = vec![
            setting("AWS_ENDPOINT", &format!("http://127.0.0.1:{}", ports[6])),
            setting("AWS_ALLOW_HTTP", "true"),
            setting("AWS_REGION", "us-east-1"),
            setting("AWS_ACCESS_KEY_ID", "auria"),
            setting("AWS_SECRET_ACCESS_KEY", "auria-secret"),
        ];
        Self { child, environment }
    }

    fn store(&self, address: &str) -> Box<dyn object_store::ObjectStore> {
        let url = url::Url::parse(address).unwrap();
        object_store::parse_url_opts(&url, self.environment.clone())
            .unwrap()
            .0
    }

    async fn wait_until_ready(&mut self) {
        let store = self.store("s3://auria/");
        let begun = Instant::now();
        while store.put(&"ready".into(), "yes".into()).await.is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "SeaweedFS ended");
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "SeaweedFS is not ready"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        // SIGTERM, so that it removes its sockets under /tmp.
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

#[tokio::test]
async fn eight_processes_at_once_lose_no_entry_in_s3() {
    let root = tempfile::tempdir().unwrap();
    let mut server = SeaweedFs::start(root.path());
    server.wait_until_ready().await;

    let gallery = "s3://auria/some/gallery";
    let commands = (0..8)
        .map(|number| post(&work(root.path(), number), gallery, &server.environment))
        .collect();
    all_at_once(commands);
    // The same work again is the same entry.
    all_at_once(vec![post(
        &root.path().join("work-3"),
        gallery,
        &server.environment,
    )]);

    let store = server.store(gallery);
    let path = object_store::path::Path::from("some/gallery").join(PAGE_FILE);
    let found = store.get(&path).await.unwrap();
    assert_eq!(
        found
            .attributes
            .get(&object_store::Attribute::ContentType)
            .unwrap()
            .as_ref(),
        "text/html; charset=utf-8"
    );
    let page = String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap();
    assert_eq!(shown(&page), 8);
    let entries = Gallery::open(gallery, server.environment.clone())
        .unwrap()
        .entries()
        .await
        .unwrap();
    assert_eq!(entries.len(), 8);
}
