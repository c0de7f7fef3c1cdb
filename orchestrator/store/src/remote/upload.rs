//! A large object on its way to a store behind a broker: in parts of an upload, straight
//! to the object store or through the broker, each sent again alone where it broke off; or
//! in one stream, where the store has no such uploads.

use super::call::{Request, own_headers, refused};
use super::objects::{RemoteObjects, Straight, TRIES, arrived, checked, generic, written_result};
use crate::StorePath;
use crate::transfer::pause;
use async_trait::async_trait;
use auria_core::protocol::{self, BeginParts, CompleteParts, PartTaken, SignFor, Written};
use bytes::Bytes;
use futures::FutureExt;
use http::{Method, header};
use object_store::{Error, MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// What the store calls the parts that it has, by number.
type Names = Arc<Mutex<Vec<Option<String>>>>;

/// A large object on its way.
pub(super) struct RemoteUpload {
    objects: RemoteObjects,
    path: StorePath,
    way: UploadWay,
}

enum UploadWay {
    Parts { upload: String, names: Names },
    Stream(StreamUpload),
}

/// One request whose body is what the parts are.
struct StreamUpload {
    sender: Option<mpsc::Sender<Result<Bytes, std::io::Error>>>,
    /// Done when the part before is on its way.
    turn: Option<oneshot::Receiver<()>>,
    sending: JoinSet<Result<PutResult>>,
}

impl std::fmt::Debug for RemoteUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteUpload({})", self.path)
    }
}

impl RemoteUpload {
    pub(super) fn parts(objects: RemoteObjects, path: StorePath, upload: String) -> Self {
        let way = UploadWay::Parts {
            upload,
            names: Names::default(),
        };
        Self { objects, path, way }
    }

    pub(super) fn stream(objects: RemoteObjects, path: StorePath) -> Self {
        // One part waits while another is sent: the parts themselves are bounded.
        let (sender, receiver) = mpsc::channel(1);
        let mut sending = JoinSet::new();
        sending.spawn(send_stream(objects.clone(), path.clone(), receiver));
        let way = UploadWay::Stream(StreamUpload {
            sender: Some(sender),
            turn: None,
            sending,
        });
        Self { objects, path, way }
    }
}

async fn send_stream(
    objects: RemoteObjects,
    path: StorePath,
    receiver: mpsc::Receiver<Result<Bytes, std::io::Error>>,
) -> Result<PutResult> {
    let remote = &objects.remote;
    let query = [("path", path.to_string()), ("mode", "overwrite".into())];
    let line = &remote.0.line;
    let url = line.address(protocol::OBJECT, &query);
    let url = url.map_err(|failed| failed.as_error(&path))?;
    let body = futures::stream::unfold(receiver, |mut receiver| async move {
        let bytes = receiver.recv().await?;
        Some((bytes, receiver))
    });
    let sent = line
        .plain
        .put(url)
        .headers(own_headers(Some(&remote.token())))
        .body(reqwest::Body::wrap_stream(body))
        .send()
        .await;
    let answer = sent.map_err(|error| generic(Box::new(error.without_url())))?;
    let status = answer.status();
    let body = answer.bytes().await;
    let body = body.map_err(|error| generic(Box::new(error.without_url())))?;
    if !status.is_success() {
        return Err(refused(status, body).as_error(&path));
    }
    let written: Written =
        serde_json::from_slice(&body).map_err(|error| generic(Box::new(error)))?;
    Ok(written_result(written))
}

#[async_trait]
impl MultipartUpload for RemoteUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let bytes = Bytes::from(data);
        match &mut self.way {
            UploadWay::Parts { upload, names } => {
                let number = {
                    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
                    names.push(None);
                    names.len() - 1
                };
                let (names, upload) = (Arc::clone(names), upload.clone());
                let (objects, path) = (self.objects.clone(), self.path.clone());
                async move {
                    let part = u32::try_from(number).map_err(|error| generic(Box::new(error)))?;
                    let name = send_part(&objects, &path, &upload, part, bytes).await?;
                    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
                    names[number] = Some(name);
                    Ok(())
                }
                .boxed()
            }
            UploadWay::Stream(stream) => {
                let sender = stream.sender.clone();
                let before = stream.turn.take();
                let (done, turn) = oneshot::channel();
                stream.turn = Some(turn);
                async move {
                    if let Some(before) = before {
                        // One that was given up ends the stream, and this send with it.
                        let _ = before.await;
                    }
                    let broken = || generic("the stream of the object broke off".into());
                    let sender = sender.ok_or_else(broken)?;
                    sender.send(Ok(bytes)).await.map_err(|_| broken())?;
                    let _ = done.send(());
                    Ok(())
                }
                .boxed()
            }
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        match &mut self.way {
            UploadWay::Parts { upload, names } => {
                let names = names.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let parts: Option<Vec<String>> = names.into_iter().collect();
                let body = CompleteParts {
                    path: self.path.to_string(),
                    upload: upload.clone(),
                    parts: parts.ok_or_else(|| generic("a part is missing".into()))?,
                };
                let objects = &self.objects;
                let done: Written = objects.post(&self.path, protocol::COMPLETE, &body).await?;
                Ok(written_result(done))
            }
            UploadWay::Stream(stream) => {
                stream.sender = None;
                stream.turn = None;
                match stream.sending.join_next().await {
                    Some(sent) => sent.map_err(|source| Error::JoinError { source })?,
                    None => Err(generic("the object was completed before".into())),
                }
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        match &mut self.way {
            UploadWay::Parts { upload, .. } => {
                let body = BeginParts {
                    path: self.path.to_string(),
                    upload: Some(upload.clone()),
                };
                let body = serde_json::to_vec(&body).map_err(|error| generic(Box::new(error)))?;
                let request = Request::new(Method::POST, protocol::ABORT).json(body.into());
                self.objects.send(&self.path, request).await.map(drop)
            }
            UploadWay::Stream(stream) => {
                if let Some(sender) = stream.sender.take() {
                    let given_up = std::io::Error::other("the upload was given up");
                    let _ = sender.try_send(Err(given_up));
                }
                stream.sending.abort_all();
                while stream.sending.join_next().await.is_some() {}
                Ok(())
            }
        }
    }
}

/// Sends one part, and says what the store calls it.
async fn send_part(
    objects: &RemoteObjects,
    path: &StorePath,
    upload: &str,
    part: u32,
    bytes: Bytes,
) -> Result<String> {
    let headers = checked(&bytes);
    let to = SignFor::Part {
        upload: upload.to_owned(),
        part,
    };
    let straight = objects.straight(path, to, Method::PUT, headers.clone(), Some(bytes.clone()));
    if let Straight::Done(answer) = straight.await? {
        let tag = answer.text(header::ETAG);
        arrived(path, &bytes, tag.as_deref())?;
        return tag.ok_or_else(|| generic("the store does not name the part".into()));
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let request = Request::new(Method::PUT, protocol::PART)
            .with("path", path)
            .with("upload", upload)
            .with("part", part)
            .headers(headers.clone())
            .body(PutPayload::from(bytes.clone()));
        match objects.remote.send(request).await {
            Ok(answer) => {
                let taken: PartTaken = objects.json(path, answer).await?;
                return Ok(taken.id);
            }
            Err(failed) if failed.is_transient() && tries < TRIES => pause(tries).await,
            Err(failed) => return Err(failed.as_error(path)),
        }
    }
}
