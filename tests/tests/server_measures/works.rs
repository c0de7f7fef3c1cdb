//! Works of the artist by an endpoint: the same steps and weights as `submit`, a fresh seed each
//! time and so nothing reused, with programs that stay warm and without.

use crate::resident;
use auria_tests::Context;
use auria_tests::measures::{Numbers, setting};
use auria_tests::server::{Server, over};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Pixels on a side of the picture that a page shows first.
const SHOWN: u32 = 512;
/// The same of the one that is posted.
const POSTED: u32 = 1080;
/// Callers at once, and how many works each asks for.
const CROWDS: [(usize, usize); 2] = [(4, 5), (16, 2)];

/// A work that was asked for.
struct Work {
    /// Until its picture was there and all that follows it, in seconds.
    took: f64,
    /// How many stood before it when it was taken.
    ahead: f64,
}

struct Endpoints {
    server: Server,
    /// No work is made twice.
    seed: AtomicU64,
}

impl Endpoints {
    /// Asks for a work, and waits for it.
    fn work(&self, endpoint: &str) -> Work {
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        let body = json!({"properties": {"InputData": {
            "seed": {"JobInputType": "Literal", "Value": seed},
        }}});
        let key = format!("work-{seed}");
        let headers = [("idempotency-key", key.as_str())];
        let path = format!("/api/v1/endpoints/{endpoint}/jobs");
        let ask = |query: &str| {
            let path = format!("{path}{query}");
            self.server
                .ask_as(&self.server.token, "POST", &path, Some(&body), &headers)
        };
        let begun = Instant::now();
        let taken = ask("").is(202).json();
        // The same key is the same work: this waits for its end.
        let job = loop {
            let answer = ask("?wait=50s");
            if answer.status == 200 {
                break answer.json();
            }
            answer.is(202);
        };
        let took = begun.elapsed().as_secs_f64();
        assert_eq!(job["properties"]["status"], "Completed", "{job}");
        let ahead = &taken["properties"]["queue"]["ahead"];
        Work {
            took,
            ahead: ahead.as_f64().unwrap_or_default(),
        }
    }

    /// Works of callers that ask at once, each for some in turn; and what it all took.
    fn crowd(&self, endpoint: &str, callers: usize, each: usize) -> (Vec<Work>, f64) {
        let begun = Instant::now();
        let works = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..callers)
                .map(|_| scope.spawn(|| (0..each).map(|_| self.work(endpoint)).collect()))
                .collect();
            let each = asked.into_iter().map(|one| one.join().expect("a caller"));
            each.collect::<Vec<Vec<Work>>>()
        });
        let works = works.into_iter().flatten().collect();
        (works, begun.elapsed().as_secs_f64())
    }

    /// How many steps of a run took outputs of others.
    fn reused(&self) -> usize {
        let runs = self.server.ask("GET", "/api/v1/runs?limit=500", None);
        let runs = runs.ok().json();
        let mut reused = 0;
        for run in runs["runs"].as_array().into_iter().flatten() {
            let path = format!("/api/v1/runs/{}", run["run"].as_str().unwrap_or_default());
            let shown = self.server.ask("GET", &path, None).ok().json();
            let steps = shown["steps"].as_object().into_iter().flatten();
            reused += steps
                .filter(|(_, step)| !step["reused_from"].is_null())
                .count();
        }
        reused
    }
}

/// The artist's pipeline with pictures of a size, in a folder with the files that it names.
fn pipeline(context: &Context, name: &str, pixels: u32, warm: bool) -> String {
    let project = auria_tests::project();
    for part in [
        "steps/haiku/weights",
        "steps/paint/weights",
        "steps/style/weights",
        "steps/style/gallery",
        "steps/post/post.yml",
    ] {
        auria_tests::copy(&project.join(part), &context.path().join(name).join(part));
    }
    let file = project.join("pipelines.yaml");
    let text = std::fs::read_to_string(file).expect("pipelines.yaml");
    let gallery = context.path().join("gallery");
    std::fs::create_dir_all(&gallery).expect("a gallery");
    let mut text = text
        .replace(
            "auria-paint paint ",
            &format!("auria-paint paint --size {pixels} "),
        )
        .replace("path: ./gallery", &format!("path: {}", gallery.display()));
    if !warm {
        let lines = text.lines().filter(|line| !line.contains("keep_warm:"));
        text = lines.collect::<Vec<_>>().join("\n");
    }
    let path = format!("{name}/pipelines.yaml");
    context.write(&path, &text);
    path
}

pub(crate) fn measure(numbers: &mut Numbers) {
    let context = Context::new();
    let runs = setting("AURIA_MEASURES_RUNS", 2).to_string();
    let server = Server::start(&context, &["--runs", &runs, "--queue", "100"]);
    let kinds = [
        ("warm", SHOWN, true),
        ("cold", SHOWN, false),
        ("posted", POSTED, true),
    ];
    for (name, pixels, warm) in kinds {
        let file = pipeline(&context, name, pixels, warm);
        let create = [
            "endpoint",
            "create",
            name,
            "--from",
            &file,
            "--pipeline",
            "auria-kathi",
        ];
        over(&context, &server, &create).exits(0);
    }
    let endpoints = Endpoints {
        server,
        seed: AtomicU64::new(1000),
    };
    let rounds = setting("AURIA_MEASURES_ROUNDS", 8);
    let shown = format!("a work of {SHOWN} px, one caller");
    // The first starts the programs.
    numbers.add(
        &format!("{shown}, the first"),
        "warm",
        "s",
        &[endpoints.work("warm").took],
    );
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    // In turns, so that what else the machine does meets both.
    for _ in 0..rounds {
        warm.extend((0..4).map(|_| endpoints.work("warm").took));
        cold.push(endpoints.work("cold").took);
    }
    numbers.spread(&shown, "warm", "s", &warm);
    numbers.spread(&shown, "cold", "s", &cold);
    let a_minute = |works: usize, took: f64| {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let rate = works as f64 * 60.0 / took;
        rate
    };
    let alone = a_minute(warm.len(), warm.iter().sum());
    numbers.add("works a minute, one caller", "warm", "", &[alone]);
    for (callers, each) in CROWDS {
        let (works, took) = endpoints.crowd("warm", callers, each);
        let times: Vec<f64> = works.iter().map(|work| work.took).collect();
        let name = format!("a work of {SHOWN} px, {callers} callers");
        numbers.spread(&name, "warm", "s", &times);
        let ahead: Vec<f64> = works.iter().map(|work| work.ahead).collect();
        numbers.add(
            &format!("works ahead in the queue, {callers} callers"),
            "warm",
            "",
            &ahead,
        );
        let rate = a_minute(works.len(), took);
        numbers.add(
            &format!("works a minute, {callers} callers"),
            "warm",
            "",
            &[rate],
        );
        numbers.add(
            &format!("throughput of {callers} callers, in times of one's"),
            "warm",
            "",
            &[rate / alone],
        );
    }
    // The first of that size; then some.
    endpoints.work("posted");
    let posted: Vec<f64> = (0..rounds.min(4))
        .map(|_| endpoints.work("posted").took)
        .collect();
    let name = format!("a work of {POSTED} px, one caller");
    numbers.spread(&name, "warm", "s", &posted);
    assert_eq!(endpoints.reused(), 0, "a work took a step of another");
    let (most, now) = resident(&endpoints.server);
    numbers.add("resident after the works", "the server", "MiB", &[now]);
    numbers.add("resident at most", "the server, works", "MiB", &[most]);
}
