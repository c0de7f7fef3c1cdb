//! How much a caller may send, ask for at once, and take its time with.

use crate::asker::{Asker, NONCE, encode, id, outcome, post, put, write_ticket};
use crate::world::{Behind, World};
use auria_core::protocol::{BROKER, Sign, SignFor, SignRequest, Signed};
use auria_engine::relay::TicketIssuer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) async fn what_is_too_large_is_refused() {
    let world = World::new(Behind::Folder).await;
    let step = write_ticket(&world, "step").await.attempt;
    let asker = Asker::new(&world);
    let session = asker.session(&step, NONCE).await;
    let own = format!("runs/test-1/data/step/1-{NONCE}/outputs/made/file");
    let large = vec![b' '; auria_core::protocol::LARGEST_BODY + 1];
    for asked in [
        put(&own, "create", large.clone()),
        ("POST", "/news", Vec::new(), large.clone()),
        ("POST", "/store/sign", Vec::new(), large),
    ] {
        assert_eq!(
            asker.ask(Some(&session), &asked).await.0,
            413,
            "{}",
            asked.1
        );
    }
    let many = vec![own.clone(); auria_core::protocol::MOST_DELETED + 1];
    let asked = post("/store/delete", &json!({"paths": many}));
    assert_eq!(asker.ask(Some(&session), &asked).await.0, 413);
    let requests = vec![
        SignRequest {
            path: own,
            to: SignFor::Get,
        };
        auria_core::protocol::MOST_SIGNED + 1
    ];
    let asked = (
        "POST",
        "/store/sign",
        Vec::new(),
        encode(&Sign { requests }),
    );
    assert_eq!(asker.ask(Some(&session), &asked).await.0, 413);
    let other_version = asker
        .client
        .get(format!("{}{BROKER}/store", world.broker.issue(&step).url))
        .bearer_auth(&session)
        .header("auria-protocol", 2);
    let answer = other_version.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(problem["type"], "auria:protocol-version");
}

/// Of many paths, one that is not its own is refused, and the others are answered.
pub(crate) async fn one_refused_url_is_the_only_one() {
    let world = World::new(Behind::Folder).await;
    let step = write_ticket(&world, "step").await.attempt;
    let asker = Asker::new(&world);
    let session = asker.session(&step, NONCE).await;
    let own = |name: &str| format!("runs/test-1/data/step/1-{NONCE}/outputs/made/{name}");
    let part = |part| SignFor::Part {
        upload: "u".to_owned(),
        part,
    };
    let requests = [
        (own("a"), SignFor::Put),
        ("layout.json".to_owned(), SignFor::Get),
        (own("b"), SignFor::Get),
        (own("c"), part(u32::MAX)),
        (own("c"), part(9_999)),
    ];
    let requests = requests.map(|(path, to)| SignRequest { path, to }).to_vec();
    let body = encode(&Sign { requests });
    let asked = ("POST", "/store/sign", Vec::new(), body);
    let (status, body) = asker.ask(Some(&session), &asked).await;
    assert_eq!(status, 200, "{body}");
    let signed: Signed = serde_json::from_str(&body).unwrap();
    let refused: Vec<_> = signed
        .refused
        .iter()
        .map(|(place, why)| (*place, why.status))
        .collect();
    assert_eq!(refused, [(1, 403), (3, 400)]);
    assert_eq!(signed.urls.len(), 5);
    let query = |number| vec![("path", "x"), ("upload", "u"), ("part", number)];
    let path = own("c");
    let parts = |number| {
        let mut query = query(number);
        query[0].1 = &path;
        ("PUT", "/store/parts/part", query, b"x".to_vec())
    };
    for number in ["10000", "4294967295"] {
        assert_eq!(
            asker.ask(Some(&session), &parts(number)).await.0,
            400,
            "{number}"
        );
    }
}

/// What stands where a record is created is not read at any size.
pub(crate) async fn what_stands_in_the_way_may_be_of_any_size() {
    let world = World::new(Behind::Folder).await;
    let step = write_ticket(&world, "step").await.attempt;
    let asker = Asker::new(&world);
    let session = asker.session(&step, NONCE).await;
    // Nobody else writes there, but whoever has the store: 4 GiB, of which nothing is on
    // the disk.
    let place = "runs/test-1/outcomes/step.json";
    let file = world.dir.path().join("store").join(place);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::File::create(&file)
        .unwrap()
        .set_len(4 << 30)
        .unwrap();
    let before = peak_memory();
    let asked = put(place, "create", encode(&outcome(&step, NONCE)));
    assert_eq!(asker.ask(Some(&session), &asked).await.0, 409);
    let grew = peak_memory() - before;
    assert!(grew < 256 << 20, "{grew} bytes");
    assert!(world.heard.all().iter().all(|event| !is_last(event)));
}

/// The most memory that this process ever had.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kilobytes * 1024
}

fn is_last(event: &auria_engine::executor::AttemptEvent) -> bool {
    use auria_engine::executor::Happened;
    matches!(&event.happened, Happened::News(news) if auria_engine::executor::is_last(news))
}

/// A connection of our own, which sends and takes what we say.
fn connect(world: &World) -> StreamOwned<ClientConnection, TcpStream> {
    let access = world.broker.issue(&id("step"));
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(access.authority.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let address = access.url.strip_prefix("https://").unwrap();
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut tcp).unwrap();
    }
    // What is served, and nothing that is not.
    assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
    StreamOwned::new(client, tcp)
}

/// What comes until the other side hangs up, and how long that took.
fn rest(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> (Vec<u8>, Duration) {
    let begun = Instant::now();
    let mut all = Vec::new();
    // It may hang up without a farewell.
    if let Err(error) = stream.read_to_end(&mut all) {
        assert_ne!(
            error.kind(),
            std::io::ErrorKind::WouldBlock,
            "nobody hung up"
        );
    }
    (all, begun.elapsed())
}

/// Who asks for nothing, sends half a body, or takes half an answer, holds what it holds for
/// half a minute.
pub(crate) async fn who_stalls_is_let_go() {
    let world = World::new(Behind::Folder).await;
    let step = write_ticket(&world, "step").await.attempt;
    let session = Asker::new(&world).session(&step, NONCE).await;
    let own = format!("runs/test-1/data/step/1-{NONCE}/outputs/made");
    let file = world.dir.path().join("store").join(&own).join("large");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let size = 256 << 20;
    std::fs::File::create(&file).unwrap().set_len(size).unwrap();
    let head = |method: &str, name: &str, more: &str| {
        format!(
            "{method} {BROKER}/store/object?path={own}/{name}{more} HTTP/1.1\r\nhost: x\r\n\
             auria-protocol: 1\r\nauthorization: Bearer {session}\r\n"
        )
    };
    let half = format!(
        "{}content-length: 1000\r\n\r\nhalf",
        head("PUT", "small", "&mode=create")
    );
    let asks = format!("{}\r\n", head("GET", "large", ""));
    let (mut idle, mut sends, mut takes) = (connect(&world), connect(&world), connect(&world));
    let idle = tokio::task::spawn_blocking(move || rest(&mut idle));
    let sends = tokio::task::spawn_blocking(move || {
        sends.write_all(half.as_bytes()).unwrap();
        let mut answer = [0; 12];
        let begun = Instant::now();
        sends.read_exact(&mut answer).unwrap();
        (answer.to_vec(), begun.elapsed())
    });
    let takes = tokio::task::spawn_blocking(move || {
        takes.write_all(asks.as_bytes()).unwrap();
        // Nothing is taken meanwhile.
        std::thread::sleep(Duration::from_secs(40));
        rest(&mut takes)
    });
    let stalled = Duration::from_secs(25)..Duration::from_secs(45);
    let (said, took) = idle.await.unwrap();
    assert!(said.is_empty() && stalled.contains(&took), "{took:?}");
    let (said, took) = sends.await.unwrap();
    assert_eq!(String::from_utf8_lossy(&said), "HTTP/1.1 408");
    assert!(stalled.contains(&took), "{took:?}");
    let (said, _) = takes.await.unwrap();
    assert!(said.starts_with(b"HTTP/1.1 200"));
    assert!(
        (said.len() as u64) < size,
        "it was kept for who took nothing"
    );
}
