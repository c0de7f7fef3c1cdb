//! A step costs a driver the same, however large its run is: events, calls of the store
//! and allocations are counted, and no clock is read.

mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, counted.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait")]
// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Events, store calls and allocations of a run.
async fn counts(steps: usize) -> (u64, u64, u64) {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let count = world::drive(steps).await;
    let after = ALLOCATIONS.load(Ordering::Relaxed);
    (count.events, count.store_calls, after - before)
}

// One test alone in its program: nothing else allocates.
#[tokio::test]
async fn a_step_costs_the_same_in_a_small_and_in_a_large_run() {
    // What a run costs once goes into the first hundred.
    let (small, twice, large) = (counts(100).await, counts(200).await, counts(10_000).await);
    let each = |of: fn(&(u64, u64, u64)) -> u64| {
        let step = (of(&twice) - of(&small)) as f64 / 100.0;
        (step, (of(&large) - of(&small)) as f64 / 9_900.0)
    };
    let (events, later_events) = each(|count| count.0);
    let (calls, later_calls) = each(|count| count.1);
    let (allocations, later_allocations) = each(|count| count.2);
    assert_eq!(events, later_events, "events for a step");
    assert_eq!(calls, later_calls, "store calls for a step");
    assert!(events >= 5.0 && calls >= 3.0, "{events} {calls}");
    // Longer numbers and larger tables make a few more; a look at every step of the run
    // would make thousands.
    assert!(
        later_allocations < 1.2 * allocations,
        "allocations for a step: {allocations} and {later_allocations}"
    );
}
