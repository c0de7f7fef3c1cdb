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
use support::instagram::Instagram;
use support::network::{Fault, Server};
use support::posting::{Said, kill as kill_now, program, secrets};
use support::x::X;
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

#[tokio::test]
async fn records_in_s3_post_once_and_instagram_fetches_by_a_signed_address() {
    let root = tempfile::tempdir().unwrap();
    let mut server = SeaweedFs::start(root.path());
    server.wait_until_ready().await;
    let gallery = "s3://auria/daily/gallery";
    let work = work(root.path(), 1);
    all_at_once(vec![post(&work, gallery, &server.environment)]);
    let instagram = Server::start(Instagram::new());
    let x = Server::start(X::new());
    let publish = |day: &str, timeout: &str| {
        let mut command = program("publish", gallery);
        command
            .args(["--to", "instagram,x", "--settle", "0", "--timeout", timeout])
            .args(["--day", day])
            .arg("--entry")
            .arg(work.join("out"))
            .env("AURIA_INSTAGRAM_URL", format!("{}/v24.0", instagram.origin))
            .env("AURIA_X_URL", &x.origin)
            .env_remove("AURIA_POST_PUBLIC_URL")
            .envs(server.environment.iter().cloned());
        command
    };
    let posts = || {
        let count = instagram.api.lock().unwrap().posts.len();
        (count, x.api.lock().unwrap().posts.len())
    };
    let run = |mut command: Command| {
        let said = Said::of(command.output().unwrap());
        for secret in secrets() {
            assert!(!format!("{said:?}").contains(secret), "{said:?}");
        }
        said
    };
    let mut dry = publish("2026-11-30", "2");
    dry.arg("--dry-run");
    let said = run(dry);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("?(signed)"), "{said:?}");

    let children: Vec<_> = (0..3)
        .map(|_| publish("2026-11-30", "2").spawn().unwrap())
        .collect();
    for child in children {
        let said = Said::of(child.wait_with_output().unwrap());
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    assert_eq!(posts(), (1, 1));

    // One that is killed leaves its record with its name; it is taken over.
    for (day, call, count) in [
        ("2026-12-01", "media_publish", 2),
        ("2026-12-02", "media", 3),
    ] {
        instagram.fault(call, Fault::HoldAfter);
        let child = publish(day, "60").spawn().unwrap();
        instagram.wait_until_held();
        kill_now(child);
        let said = run(publish(day, "2"));
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(posts(), (count, count));
    }
    let mut listed = program("posts", gallery);
    listed.envs(server.environment.iter().cloned());
    let said = run(listed);
    assert_eq!(said.out.matches(" posted ").count(), 6, "{said:?}");
    // Records hold no secret and no signed address.
    let store = server.store(gallery);
    for network in ["instagram", "x"] {
        let path = format!("daily/gallery/posts/2026-11-30/{network}.json");
        let found = store.get(&path.into()).await.unwrap();
        let text = String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap();
        for secret in secrets() {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
