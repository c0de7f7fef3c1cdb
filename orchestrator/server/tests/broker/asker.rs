//! Requests to a broker without the checks of the real client, and what they carry.

use crate::world::{World, text, ticket, with_output};
use auria_core::outcome::{Claim, EndRecord, Outcome, Status, Timings};
use auria_core::plan::DataType;
use auria_core::protocol::{
    AskedClaim, BROKER, ClaimGrant, PROTOCOL_VERSION, Sign, SignFor, SignRequest, Signed, nonce_of,
};
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, Digest, Nonce, Timestamp};
use auria_engine::relay::TicketIssuer;
use auria_store::layout;
use serde_json::Value;
use std::collections::BTreeMap;

/// Made of [`SECRET`].
pub(crate) const NONCE: &str = "001560aa4d9b776c";
pub(crate) const SECRET: &str = "what a launcher drew";
/// Made of [`OTHER_SECRET`].
pub(crate) const OTHER: &str = "0099b43e0f479f25";
pub(crate) const OTHER_SECRET: &str = "what another drew";

/// Asks without the checks of the real client.
pub(crate) struct Asker<'a> {
    world: &'a World,
    pub(crate) client: reqwest::Client,
}

/// What is asked: method, path below the broker's base, query, body.
pub(crate) type Asked<'a> = (&'static str, &'static str, Vec<(&'a str, &'a str)>, Vec<u8>);

impl<'a> Asker<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let authority = world.broker.issue(&id("step")).authority;
        let certificate = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([certificate])
            .build()
            .unwrap();
        Self { world, client }
    }

    pub(crate) async fn ask(&self, token: Option<&str>, asked: &Asked<'_>) -> (u16, String) {
        let (method, path, query, body) = asked;
        let base = self.world.broker.issue(&id("step")).url;
        let mut url = reqwest::Url::parse(&format!("{base}{BROKER}{path}")).unwrap();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self
            .client
            .request(method.parse().unwrap(), url)
            .header("auria-protocol", PROTOCOL_VERSION)
            .header("content-type", "application/json")
            .body(body.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The same, where what is asked is one URL: with what is answered of it.
    pub(crate) async fn answer(&self, token: Option<&str>, asked: &Asked<'_>) -> (u16, String) {
        let (status, body) = self.ask(token, asked).await;
        match serde_json::from_str::<Signed>(&body) {
            Ok(signed) if asked.1 == "/store/sign" && signed.refused.contains_key(&0) => {
                assert_eq!(signed.urls, [None]);
                (signed.refused[&0].status, body)
            }
            _ => (status, body),
        }
    }

    pub(crate) async fn claim(&self, id: &AttemptId, nonce: &str) -> (u16, String) {
        let token = self.world.broker.issue(id).token;
        let asked = ("POST", "/claim", Vec::new(), encode(&asks(id, nonce)));
        self.ask(Some(&token), &asked).await
    }

    pub(crate) async fn session(&self, id: &AttemptId, nonce: &str) -> String {
        let (status, body) = self.claim(id, nonce).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<ClaimGrant>(&body).unwrap().session
    }
}

pub(crate) fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

pub(crate) fn id(step: &str) -> AttemptId {
    ticket(step, &[text("true")]).attempt
}

pub(crate) fn claim(id: &AttemptId, nonce: &str) -> Claim {
    Claim {
        attempt: id.clone(),
        nonce: nonce.parse().unwrap(),
        host: "host".to_owned(),
        boot_id: String::new(),
        process: "1".to_owned(),
        claimed: Timestamp(1),
    }
}

/// As its launcher asks for it.
pub(crate) fn asks(id: &AttemptId, nonce: &str) -> AskedClaim {
    let secret = if nonce == NONCE { SECRET } else { OTHER_SECRET };
    assert_eq!(nonce_of(secret).unwrap().as_str(), nonce);
    AskedClaim {
        claim: claim(id, nonce),
        secret: secret.to_owned(),
    }
}

pub(crate) fn outcome(id: &AttemptId, nonce: &str) -> Outcome {
    let nonce: Nonce = nonce.parse().unwrap();
    let place = layout::output(id, &nonce, "made");
    let made = auria_core::outcome::Artifact {
        prefix: place.to_string(),
        manifest: layout::output_manifest(id, &nonce, "made").to_string(),
        data_type: DataType::UriFolder,
        files: 1,
        bytes: 1,
        digest: Digest::of(b"x"),
    };
    Outcome {
        version: 1,
        run: id.run.clone(),
        step: id.step.clone(),
        status: Status::Completed,
        attempt: Some(id.number),
        nonce: Some(nonce),
        attempts: 1,
        cause: None,
        exit_code: Some(0),
        message: None,
        outputs: BTreeMap::from([("made".to_owned(), made)]),
        reused_from: None,
        key: None,
        timings: Timings::default(),
        last_lines: Vec::new(),
        node: None,
        started: None,
        ended: Timestamp(2),
    }
}

pub(crate) fn end(id: &AttemptId, nonce: &str) -> EndRecord {
    EndRecord {
        attempt: id.clone(),
        nonce: Some(nonce.parse().unwrap()),
        cause: auria_core::outcome::Cause::Exit,
        exit_code: Some(1),
        message: String::new(),
        last_lines: Vec::new(),
        timings: Timings::default(),
        checkpoint: None,
        published: None,
        node: None,
        started: None,
        ended: Timestamp(2),
    }
}

pub(crate) async fn write_ticket(world: &World, step: &str) -> Ticket {
    let ticket = with_output(ticket(step, &[text("true")]), "made", DataType::UriFolder);
    world.journal(&ticket).write_ticket(&ticket).await.unwrap();
    ticket
}

pub(crate) fn read(path: &str) -> Asked<'_> {
    ("GET", "/store/object", vec![("path", path)], Vec::new())
}

pub(crate) fn put<'a>(path: &'a str, mode: &'a str, body: impl Into<Vec<u8>>) -> Asked<'a> {
    let query = vec![("path", path), ("mode", mode)];
    ("PUT", "/store/object", query, body.into())
}

pub(crate) fn sign(path: &str, to: SignFor) -> Asked<'static> {
    let requests = vec![SignRequest {
        path: path.to_owned(),
        to,
    }];
    (
        "POST",
        "/store/sign",
        Vec::new(),
        encode(&Sign { requests }),
    )
}

pub(crate) fn post(path: &'static str, body: &Value) -> Asked<'static> {
    ("POST", path, Vec::new(), encode(body))
}
