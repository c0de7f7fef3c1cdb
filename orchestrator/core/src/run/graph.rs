//! Which step waits for which: a plan's edges by number, made once for a run.
//! It knows nothing of what has happened.

use crate::ids::StepPath;
use crate::mutant;
use crate::plan::{Plan, PlannedInput};
use std::collections::{BTreeMap, HashMap};

/// A step's place in [`Plan::steps`].
pub(super) type Index = usize;

/// A step that waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// Who waits.
    pub(super) to: Index,
    /// Whether it cannot run without the other's success: its data (unless only
    /// optional inputs take it), or `depends_on`.
    pub(super) required: bool,
}

/// The edges of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Graph {
    pub(super) index: HashMap<StepPath, Index>,
    /// Who waits for each step.
    pub(super) dependents: Vec<Vec<Edge>>,
    /// For how many steps each one waits.
    pub(super) missing: Vec<u32>,
    /// Runs before every other.
    pub(super) init: Option<Index>,
    /// Runs after every other.
    pub(super) finalize: Option<Index>,
}

impl Graph {
    pub(super) fn of(plan: &Plan) -> Self {
        let index: HashMap<StepPath, Index> = plan
            .steps
            .iter()
            .enumerate()
            .map(|(i, step)| (step.path.clone(), i))
            .collect();
        let named =
            |path: &Option<StepPath>| path.as_ref().and_then(|path| index.get(path).copied());
        let init = named(&plan.settings.on_init);
        let finalize = named(&plan.settings.on_finalize);
        let mut dependents = vec![Vec::new(); plan.steps.len()];
        let mut missing = vec![0; plan.steps.len()];
        for (to, step) in plan.steps.iter().enumerate() {
            // The first and the last step are ordered by that alone; nothing can
            // wait for the last one.
            if Some(to) == init || Some(to) == finalize {
                continue;
            }
            let mut needs: BTreeMap<Index, bool> = BTreeMap::new();
            let data = step.inputs.values().filter_map(|input| match input {
                PlannedInput::Step { optional: true, .. } if mutant!(OptionalNotAwaited) => None,
                PlannedInput::Step { step, optional, .. } => Some((step, !optional)),
                _ => None,
            });
            let order = step.after.iter().map(|path| (path, true));
            for (path, required) in data.chain(order) {
                if let Some(&from) = index.get(path)
                    && Some(from) != finalize
                {
                    *needs.entry(from).or_default() |= required;
                }
            }
            missing[to] = u32::try_from(needs.len()).unwrap_or(u32::MAX);
            for (from, required) in needs {
                dependents[from].push(Edge { to, required });
            }
        }
        Self {
            index,
            dependents,
            missing,
            init,
            finalize,
        }
    }
}
