//! A log that many follow: each line says when it was written, and each reader when it came.

use crate::resident;
use auria_tests::Context;
use auria_tests::measures::{Numbers, setting};
use auria_tests::server::Server;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Lines that are written, and the milliseconds between two.
const LINES: usize = 500;
const APART: u64 = 20;

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock").as_secs_f64() * 1e3
}

pub(crate) fn measure(numbers: &mut Numbers) {
    let context = Context::new();
    let followers = setting("AURIA_MEASURES_FOLLOWERS", 200);
    let server = Server::start(&context, &[]);
    let (_, before) = resident(&server);
    let go = context.path().join("go");
    let document = format!(
        "type: pipeline\nname: talk\njobs:\n  talk:\n    command: >-\n      \
         while [ ! -e {} ]; do sleep 0.05; done; \
         for i in $(seq {LINES}); do date +%s%3N; sleep 0.0{APART}; done\n",
        go.display()
    );
    let body = json!({"document": document, "name": "talk"});
    server.ask("POST", "/api/v1/runs", Some(&body)).is(202);
    let begun = Instant::now();
    let lates: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..followers)
            .map(|_| {
                let stream = server.send(
                    &server.token,
                    "GET",
                    "/api/v1/runs/talk/logs?step=talk&follow=true",
                    None,
                    &[],
                );
                scope.spawn(move || {
                    let lines = BufReader::new(stream).lines().map_while(Result::ok);
                    // Lines of the head and the sizes of chunks are no such numbers.
                    let stamps = lines.filter(|line| line.len() == 13);
                    let stamps = stamps.filter_map(|line| line.parse::<f64>().ok());
                    stamps.map(|stamp| now() - stamp).collect::<Vec<_>>()
                })
            })
            .collect();
        // All of them are there before the first line.
        std::thread::sleep(Duration::from_secs(2));
        std::fs::write(&go, "").expect("a file");
        all.into_iter()
            .map(|one| one.join().expect("a follower"))
            .collect()
    });
    assert!(begun.elapsed() < Duration::from_secs(300), "they all end");
    for late in &lates {
        assert_eq!(late.len(), LINES, "a follower missed a line");
    }
    let lates: Vec<f64> = lates.into_iter().flatten().collect();
    let name = format!("a line's way to {followers} followers");
    numbers.spread(&name, "serve", "ms", &lates);
    let (most, _) = resident(&server);
    numbers.add(
        &format!("resident at most, beyond its start, with {followers} followers"),
        "serve",
        "MiB",
        &[most - before],
    );
    numbers.add("resident at most", "the server, followers", "MiB", &[most]);
}
