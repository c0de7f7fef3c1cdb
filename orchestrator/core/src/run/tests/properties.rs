//! What holds whatever the plan, the schedule and the trouble.

use super::plans::{Act, PlanSpec, Prelude, plans};
use super::sim::{Sim, Trouble, ends_of};
use super::world::World;
use crate::run::Limits;
use proptest::prelude::*;

fn limits(seed: u64) -> Limits {
    Limits {
        max_starts: 1 + (seed % 4) as usize,
        max_lookups: 1 + (seed / 4 % 3) as usize,
        max_unavailable: 4,
        max_unclaimed: 1 + (seed / 16 % 2) as u32,
        ..Limits::default()
    }
}

/// The plan without what makes a step's end hang on what no record holds: an
/// executor's word that a driver took with it.
fn told_by_records(mut spec: PlanSpec) -> PlanSpec {
    for step in &mut spec.steps {
        for act in &mut step.acts {
            if matches!(act, Act::Killed(_)) {
                *act = Act::Vanish;
            }
        }
        step.preludes.fill(Prelude::Unavailable);
    }
    spec
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2 * ProptestConfig::default().cases, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    /// Every run ends, nothing starts too early or twice, nothing is left running,
    /// with mail that is late, twice, lost and out of order.
    #[test]
    fn runs_end(spec in plans(false), seed: u64) {
        let mut world = World::new(spec, seed);
        world.lossy = seed % 3 == 0;
        world.deaf = seed % 2 == 0;
        Sim::new(world, limits(seed), Trouble::default()).run();
    }

    /// The same, canceled at any moment.
    #[test]
    fn canceled_runs_end(spec in plans(true), seed: u64, at in 0..300usize, outside: bool) {
        let mut world = World::new(spec, seed);
        world.lossy = seed % 3 == 0;
        world.deaf = true;
        let trouble = Trouble { cancel: Some(at), cancel_from_outside: outside, ..Trouble::default() };
        Sim::new(world, limits(seed), trouble).run();
    }

    /// Killed at any moments, canceled or not: what is recovered is what events
    /// had told, and the run ends.
    #[test]
    fn recovery_equals_replay(
        spec in plans(false),
        seed: u64,
        kills in prop::collection::vec(0..250usize, 1..6),
        cancel in prop::option::weighted(0.3, 0..250usize),
        outside: bool,
    ) {
        let world = World::new(spec, seed);
        let trouble =
            Trouble { kills, cancel, cancel_from_outside: outside, compare: true, ..Trouble::default() };
        Sim::new(world, limits(seed), trouble).run();
    }

    /// Killed or not, each step ends the same way.
    #[test]
    fn killed_runs_end_the_same_way(
        spec in plans(false),
        seed: u64,
        kills in prop::collection::vec(0..250usize, 1..6),
    ) {
        let spec = told_by_records(spec);
        let mut undisturbed = Sim::new(World::new(spec.clone(), seed), limits(seed), Trouble::default());
        let end = undisturbed.run();
        let expected = ends_of(&undisturbed, &end);
        let trouble = Trouble { kills, ..Trouble::default() };
        let goes_on = spec.goes_on && !spec.init;
        let mut killed = Sim::new(World::new(spec, seed ^ 1), limits(seed), trouble);
        let end = killed.run();
        let found = ends_of(&killed, &end);
        prop_assert_eq!(expected.0, found.0);
        if goes_on {
            prop_assert_eq!(expected.1, found.1);
        }
    }

    /// Starts of drivers that lost the run come true after the next took over:
    /// launchers of one number race for the claim, and the run ends.
    #[test]
    fn late_starts_do_no_harm(
        spec in plans(false),
        seed: u64,
        kills in prop::collection::vec(0..250usize, 1..6),
        cancel in prop::option::weighted(0.3, 0..250usize),
    ) {
        let mut world = World::new(spec, seed);
        world.deaf = seed % 2 == 0;
        let trouble = Trouble { kills, cancel, late_starts: true, ..Trouble::default() };
        Sim::new(world, limits(seed), trouble).run();
    }
}
