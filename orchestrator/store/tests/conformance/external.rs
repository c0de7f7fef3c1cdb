//! Inputs from outside of a store: pinned, fetched, and refused where they changed,
//! from a real S3 server and from a plain HTTP server.

use crate::fixtures::{noise, tree, write};
use auria_core::plan::DataType;
use auria_store::Access;
use auria_store::testing::Weed;
use auria_store::{ErrorKind, StoreError, StorePath, external};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// `external` reads the environment's `AWS_…`, as programs do; so this is a process
/// of its own.
pub(crate) async fn objects_are_pinned(weed: &Weed) {
    let done = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "external::child_of_objects_are_pinned",
            "--ignored",
            "--nocapture",
        ])
        .envs(weed.env())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success() && said.contains("all of it was tried"),
        "{said}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Not a test: the process of [`objects_are_pinned`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by objects_are_pinned"]
async fn child_of_objects_are_pinned() {
    if std::env::var_os("AWS_ENDPOINT_URL").is_none() {
        return;
    }
    let bucket = auria_store::Store::open(&"s3://auria".parse().unwrap(), Access::Read)
        .await
        .unwrap();
    let local = tempfile::tempdir().unwrap();
    write(local.path(), "a.txt", "one");
    write(local.path(), "deep/b.bin", noise(9_000_001, 3));
    write(local.path(), "empty", "");
    for (name, content) in tree_bytes(local.path()) {
        let path = StorePath::parse(format!("elsewhere/data/{name}")).unwrap();
        bucket.write(&path, content).await.unwrap();
    }
    let uri = "s3://auria/elsewhere/data";
    let pin = external::pin(uri).await.unwrap();
    assert_eq!(external::pin(&format!("{uri}/")).await.unwrap(), pin);
    let to = tempfile::tempdir().unwrap();
    let folder = DataType::UriFolder;
    let fetched = external::fetch(uri, &pin, folder, to.path()).await.unwrap();
    assert_eq!((fetched.files, fetched.bytes), (3, 9_000_004));
    assert_eq!(tree(to.path()), tree(local.path()));

    let error = external::fetch(uri, &pin, DataType::UriFile, to.path()).await;
    assert!(error.unwrap_err().to_string().contains("uri_file"));
    let one = format!("{uri}/a.txt");
    let pin_of_one = external::pin(&one).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let fetched = external::fetch(&one, &pin_of_one, DataType::UriFile, place.path())
        .await
        .unwrap();
    assert_eq!(fetched.path, place.path().join("a.txt"));
    assert_eq!(std::fs::read(&fetched.path).unwrap(), b"one");

    // The same size, other bytes: one object among several.
    let path = StorePath::from("elsewhere/data/a.txt");
    bucket.write(&path, "two").await.unwrap();
    for (uri, pin, data_type) in [(uri, &pin, folder), (&*one, &pin_of_one, DataType::UriFile)] {
        let back = tempfile::tempdir().unwrap();
        let error = external::fetch(uri, pin, data_type, back.path())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(uri) && text.contains("changed since"),
            "{text}"
        );
        assert!(tree(back.path()).is_empty(), "{:?}", tree(back.path()));
    }
    let error = external::pin("s3://auria/elsewhere/nothing")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    println!("\nall of it was tried");
}

fn tree_bytes(root: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    ["a.txt", "deep/b.bin", "empty"]
        .map(|name| (name.to_owned(), std::fs::read(root.join(name)).unwrap()))
        .into()
}

/// What is asked of [`Web`], and its answer: head lines after the status, and the body
/// that is really sent.
struct Asked {
    method: String,
    path: String,
    range: Option<u64>,
    if_match: Option<String>,
}

/// A plain HTTP server; it ends with the test's process.
struct Web {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn start(answer: impl Fn(&Asked, usize) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { return };
                let Some(request) = read(&stream) else {
                    continue;
                };
                seen.lock().unwrap().push(format!(
                    "{} {} {:?}",
                    request.method, request.path, request.range
                ));
                let _ = stream.write_all(&answer(&request, number));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let mut asked = Asked {
        method: words.next()?.into(),
        path: words.next()?.into(),
        range: None,
        if_match: None,
    };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let from = value
                    .trim()
                    .trim_start_matches("bytes=")
                    .trim_end_matches('-');
                asked.range = from.parse().ok();
            }
            "if-match" => asked.if_match = Some(value.trim().into()),
            _ => {}
        }
    }
    Some(asked)
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// Cuts each answer in its middle, and goes on from there when it is asked to.
#[tokio::test]
async fn a_file_that_breaks_off_is_read_on() {
    let content = noise(5_000_000, 9);
    let served = content.clone();
    let web = Web::start(move |asked, _| {
        let from = asked.range.unwrap_or(0) as usize;
        let rest = &served[from..];
        let status = if from > 0 {
            "206 Partial Content"
        } else {
            "200 OK"
        };
        let mut headers = format!("ETag: \"v1\"\r\nContent-Length: {}\r\n", rest.len());
        if from > 0 {
            assert_eq!(asked.if_match.as_deref(), Some("\"v1\""));
            headers += &format!(
                "Content-Range: bytes {from}-{}/{}\r\n",
                served.len() - 1,
                served.len()
            );
        }
        let sent = match asked.method.as_str() {
            "HEAD" => &[],
            _ if rest.len() > 1_000_000 => &rest[..rest.len() / 2],
            _ => rest,
        };
        answer(status, &headers, sent)
    });
    let uri = format!("{}/data/noise.bin?of=9", web.address);
    let pin = external::pin(&uri).await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let fetched = external::fetch(&uri, &pin, DataType::UriFile, to.path())
        .await
        .unwrap();
    assert_eq!(fetched.path, to.path().join("noise.bin"));
    assert!(std::fs::read(&fetched.path).unwrap() == content);
    let ranges = web
        .asked()
        .iter()
        .filter(|asked| asked.contains("Some"))
        .count();
    assert!(ranges >= 2, "{:?}", web.asked());
}

async fn fetched(uri: &str, pin: &str) -> Result<(), StoreError> {
    let to = tempfile::tempdir().unwrap();
    let result = external::fetch(uri, pin, DataType::UriFile, to.path()).await;
    if result.is_err() {
        assert!(tree(to.path()).is_empty(), "something is left");
    }
    result.map(drop)
}

#[tokio::test]
async fn a_file_that_changed_is_refused() {
    let web = Web::start(|asked, _| {
        let (path, head) = (asked.path.as_str(), asked.method == "HEAD");
        let both = |first: &str, then: &str| {
            if head {
                first.to_owned()
            } else {
                then.to_owned()
            }
        };
        let headers = match path {
            "/same" => "ETag: \"1\"\r\n".to_owned(),
            "/tag" => both("ETag: \"1\"\r\n", "ETag: \"2\"\r\n"),
            "/date" => both(
                "Last-Modified: Tue, 1 Jul 2025 00:00:00 GMT\r\n",
                "Last-Modified: Wed, 2 Jul 2025 00:00:00 GMT\r\n",
            ),
            "/nothing" => String::new(),
            "/gone" => return answer("404 Not Found", "Content-Length: 0\r\n", b""),
            "/round" => {
                return answer(
                    "302 Found",
                    "Location: /round\r\nContent-Length: 0\r\n",
                    b"",
                );
            }
            "/get" if head => {
                return answer("405 Method Not Allowed", "Content-Length: 0\r\n", b"");
            }
            "/get" => "ETag: \"1\"\r\n".to_owned(),
            "/short" => "ETag: \"1\"\r\nContent-Length: 9\r\n".to_owned(),
            other => panic!("{other}"),
        };
        let length = if path == "/short" {
            ""
        } else {
            "Content-Length: 4\r\n"
        };
        answer(
            "200 OK",
            &format!("{headers}{length}"),
            if head { b"" } else { b"poem" },
        )
    });
    let uri = |path: &str| format!("{}/{path}", web.address);
    for path in ["same", "get"] {
        let pin = external::pin(&uri(path)).await.unwrap();
        fetched(&uri(path), &pin).await.unwrap();
    }
    for path in ["tag", "date"] {
        let pin = external::pin(&uri(path)).await.unwrap();
        let error = fetched(&uri(path), &pin).await.unwrap_err().to_string();
        assert!(
            error.contains(&uri(path)) && error.contains("changed since"),
            "{error}"
        );
    }
    let error = external::pin(&uri("nothing"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("nobody could tell"), "{error}");
    let error = external::pin(&uri("gone")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    external::pin(&uri("round")).await.unwrap_err();
    let asked = web
        .asked()
        .iter()
        .filter(|asked| asked.contains("/round"))
        .count();
    assert!(asked <= 40, "redirected {asked} times");
    let pin = external::pin(&uri("short")).await.unwrap();
    let error = fetched(&uri("short"), &pin).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}
