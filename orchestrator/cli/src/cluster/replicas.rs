//! A replica that does not drive passes on what launchers tell it, to the one that does: a
//! step's end starts the next one at once, whichever replica the launcher called.

use async_trait::async_trait;
use auria_core::AttemptId;
use auria_core::outcome::Cause;
use auria_core::protocol::{Heard, REPLICAS, Said};
use auria_engine::executor::{AttemptEvent, Happened};
use auria_engine::relay::Wake;
use auria_kubernetes::controller::Leads;
use auria_kubernetes::{Relay, executor};
use auria_store::remote::{Remote, RemoteOptions};
use kube::Client;
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that may wait for the other one. What finds no room is missed: the end of its Pod
/// tells the rest.
const QUEUE: usize = 1024;
/// Of these, log lines leave so many for news.
const FOR_NEWS: usize = 512;
/// Most that is passed on at once.
const AT_ONCE: usize = 64;
/// How long the other one may take to hear it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before it is told again, once: it may just have begun to drive.
const AGAIN: Duration = Duration::from_millis(500);

/// Tells this process, and the one that drives where that is another.
pub struct Telling {
    relay: Relay,
    leads: Leads,
    queue: mpsc::Sender<AttemptEvent>,
    /// The cluster and the namespace in it that Pods are looked up in.
    pods: Option<(Client, String)>,
}

/// What opens the other replicas.
pub struct Others {
    /// The token that all of them share.
    pub token: String,
    /// The certificate that theirs are signed by.
    pub authority: String,
}

impl Telling {
    /// What the broker tells, and what [`pass_on`] reads. Pods are looked up in a namespace of
    /// a cluster, where one is given.
    pub fn new(
        relay: Relay,
        leads: Leads,
        pods: Option<(Client, String)>,
    ) -> (Self, mpsc::Receiver<AttemptEvent>) {
        let (queue, heard) = mpsc::channel(QUEUE);
        (
            Self {
                relay,
                leads,
                queue,
                pods,
            },
            heard,
        )
    }
}

#[async_trait]
impl Wake for Telling {
    fn tell(&self, event: AttemptEvent) {
        let is_log = matches!(event.happened, Happened::Log(_));
        let has_room = !is_log || self.queue.capacity() > FOR_NEWS;
        if has_room && self.leads.elsewhere().is_some() {
            let _ = self.queue.try_send(event.clone());
        }
        self.relay.tell(event);
    }

    async fn taken_by(&self, attempt: &AttemptId) -> Option<Cause> {
        // Whoever drives knows what it stopped, and watches all Pods.
        if let Some(cause) = self.relay.taken_by(attempt).await {
            return Some(cause);
        }
        let (client, namespace) = self.pods.as_ref()?;
        executor::taken_by(client, namespace, attempt).await
    }
}

/// Passes on what is heard, in order, for as long as it is polled.
pub async fn pass_on(mut heard: mpsc::Receiver<AttemptEvent>, leads: Leads, others: Others) {
    let mut way: Option<(String, Remote)> = None;
    let mut events = Vec::new();
    while heard.recv_many(&mut events, AT_ONCE).await > 0 {
        let said: Vec<Heard> = events.drain(..).map(heard_of).collect();
        for again in [false, true] {
            // It may be another by now, or this one.
            let Some(url) = leads.elsewhere() else { break };
            if way.as_ref().is_none_or(|(known, _)| *known != url) {
                let remote = Remote::new(&RemoteOptions {
                    url: url.clone(),
                    base: REPLICAS,
                    token: others.token.clone(),
                    authority: Some(others.authority.clone()),
                });
                way = remote.ok().map(|remote| (url.clone(), remote));
            }
            let Some((_, remote)) = &way else { break };
            let failed = match tokio::time::timeout(PATIENCE, remote.pass_on(&said)).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => "it does not answer".to_owned(),
            };
            if again {
                tracing::warn!(url, "telling the replica that drives: {failed}");
            } else {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

fn heard_of(event: AttemptEvent) -> Heard {
    let AttemptEvent { attempt, happened } = event;
    let said = match happened {
        Happened::News(news) => Said::News { news },
        Happened::Log(lines) => Said::Log { lines },
    };
    Heard { attempt, said }
}

#[cfg(test)]
mod tests {
    use super::{Others, Telling, pass_on};
    use auria_core::AttemptId;
    use auria_core::run::AttemptNews;
    use auria_engine::executor::{AttemptEvent, Happened};
    use auria_engine::relay::Wake;
    use auria_kubernetes::Relay;
    use auria_kubernetes::controller::Leads;
    use auria_server::tls::Authority;
    use auria_server::{Listening, replicas};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tokio::sync::mpsc;

    /// Remembers what it is told.
    struct Heard(Mutex<mpsc::Sender<AttemptEvent>>);

    #[async_trait::async_trait]
    impl Wake for Heard {
        fn tell(&self, event: AttemptEvent) {
            self.0.lock().unwrap().try_send(event).unwrap();
        }

        async fn taken_by(&self, _: &AttemptId) -> Option<auria_core::outcome::Cause> {
            None
        }
    }

    fn event(step: &str) -> AttemptEvent {
        AttemptEvent {
            attempt: AttemptId {
                run: "r".parse().unwrap(),
                step: step.parse().unwrap(),
                number: 1,
            },
            happened: Happened::News(AttemptNews::ClaimLost),
        }
    }

    #[tokio::test]
    async fn what_one_replica_hears_the_one_that_drives_hears_at_once() {
        let authority = Authority::make().unwrap();
        let tls = authority.server(&["127.0.0.1".to_owned()]).unwrap();
        let token = replicas::token(b"a key of thirty-two bytes, or so").unwrap();
        let (sender, mut drives) = mpsc::channel(16);
        let wake = Arc::new(Heard(Mutex::new(sender)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let _listening = Listening::start(listener, tls, replicas::router(&token, wake)).unwrap();

        let leads = Leads::default();
        let (telling, heard) = Telling::new(Relay::default(), leads.clone(), None);
        // While this one drives, or nobody does, nothing is passed on.
        telling.tell(event("own"));
        leads.set(Some(url));
        telling.tell(event("first"));
        telling.tell(event("second"));
        let others = |token: &str| Others {
            token: token.to_owned(),
            authority: authority.certificate().to_owned(),
        };
        let passes = pass_on(heard, leads.clone(), others(&token));
        let next = async {
            let first = drives.recv().await.unwrap();
            (first, drives.recv().await.unwrap())
        };
        let told = tokio::select! {
            () = passes => panic!("it ends"),
            told = tokio::time::timeout(Duration::from_secs(20), next) => told.unwrap(),
        };
        assert_eq!(told, (event("first"), event("second")));

        // Nobody else is listened to.
        let (telling, heard) = Telling::new(Relay::default(), leads.clone(), None);
        telling.tell(event("forged"));
        drop(telling);
        let other = replicas::token(b"another key of thirty-two bytes!").unwrap();
        pass_on(heard, leads, others(&other)).await;
        assert!(drives.try_recv().is_err());
    }
}
