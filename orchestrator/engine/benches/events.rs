//! What an event costs the driver at 100 and at 100,000 steps: the real driver, run
//! state and journal on a store and an executor in memory. Prints one JSON value for
//! each size; `cargo xtask bench local` reads them.
//!
//! `cargo bench -p auria-engine --bench events -- --steps 100,1000`

#[path = "../tests/scale/world.rs"]
mod world;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let given = arguments
        .windows(2)
        .find_map(|pair| (pair[0] == "--steps").then(|| pair[1].clone()));
    let sizes = given.unwrap_or_else(|| "100,1000,10000".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for size in sizes.split(',') {
        let steps: usize = size.parse().expect("--steps takes numbers with commas");
        // The first run of a size warms caches; of small ones, many are needed for a time.
        let rounds = (20_000 / steps).clamp(1, 50) + 1;
        let mut best: Option<world::Count> = None;
        for _ in 0..rounds {
            let count = runtime.block_on(world::drive(steps));
            if best.is_none_or(|best| count.took < best.took) {
                best = Some(count);
            }
        }
        let Some(count) = best else { continue };
        let microseconds = count.took.as_secs_f64() * 1e6;
        let value = serde_json::json!({
            "steps": steps,
            "events": count.events,
            "us_per_event": microseconds / count.events as f64,
            "us_per_step": microseconds / steps as f64,
            "store_calls_per_step": count.store_calls as f64 / steps as f64,
        });
        println!("{value}");
    }
}
