//! The retraining of one of the artist's models, by one Pod and by two, whose node is killed in
//! the middle of its training: it goes on from its checkpoint.

use super::kinds::granted;
use super::work::submit;
use super::world::{World, until};
use auria_core::outcome::{Cause, Decision, Status};
use std::time::Duration;

/// How long its parts may take.
const LONG: Duration = Duration::from_secs(180);

/// One process trains.
pub(crate) const ALONE: &str = "retrain";

/// Two do, in a Pod each.
pub(crate) const TOGETHER: &str = "retrain-distributed";

/// A pipeline of pipelines.yaml without the two larger models, with a checkpoint every second
/// and as many steps as leave time for one.
fn pipeline(name: &str) -> String {
    let all = std::fs::read_to_string(auria_tests::project().join("pipelines.yaml"));
    let all = all.expect("the project's pipelines");
    let mut documents = all.split("\n---\n");
    let named = format!("\nname: {name}\n");
    let own = documents.find(|one| one.contains(&named)).expect("it");
    let cut = |mark: &str| own.find(mark).unwrap_or(own.len());
    let head = &own[..cut("outputs:\n  haiku:")];
    let jobs = &own[cut("  haiku_data:")..cut("  paint_data:")];
    let trains = "--budget ${{inputs.budget}}";
    assert!(jobs.contains(trains), "{jobs}");
    let jobs = jobs.replace(
        trains,
        &format!("{trains} --steps 600 --checkpoint-every 1"),
    );
    let project = auria_tests::project().display().to_string();
    let head = head.replace("path: ./", &format!("path: {project}/"));
    format!("{head}outputs:\n  haiku: {{type: custom_model, name: auria-haiku}}\njobs:\n{jobs}")
}

/// Trains, kills, and looks at what came of it.
pub(crate) fn goes_on_from_its_checkpoint(
    world: &mut World,
    pipeline_name: &str,
) -> Result<String, String> {
    let file = format!("{pipeline_name}.yml");
    world.someone.write(&file, &pipeline(pipeline_name));
    // The other's training is another's work: what has run once is not to be reused.
    let seed = format!("inputs.seed={}", pipeline_name.len());
    let run = submit(
        &world.someone,
        &[&file, "--set", "inputs.budget=smoke", "--set", &seed],
    )?;
    let step = "haiku_train";
    let node = until("a checkpoint", LONG, || {
        let found = world.vault.look(&run)?;
        if let Some(end) = &found.ended {
            return Err(format!("{run} is {:?} already", end.status));
        }
        // Of an attempt that runs, its newest checkpoint is found.
        let has = found.checkpoints.keys().any(|(of, _)| of.as_str() == step);
        let claim = found
            .claims
            .iter()
            .find(|c| c.attempt.step.as_str() == step);
        Ok(claim.filter(|_| has).map(|claim| claim.host.clone()))
    })?;
    let broken = world.cluster.fault(&["kill-node", &node]);
    let lost = until("the verdict on its attempt", LONG, || {
        Ok(granted(&world.vault.look(&run)?, step, 2))
    })?;
    // No other node fits its pin; of two Pods, both are there.
    broken.mend();
    let Decision::Granted { cause, restore, .. } = &lost else {
        return Err(format!("{lost:?}"));
    };
    if *cause != Cause::NodeLost || restore.is_none() {
        return Err(format!(
            "the second attempt was granted otherwise: {lost:?}"
        ));
    }
    let found = until("the run's end", LONG, || {
        let found = world.vault.look(&run)?;
        Ok(found.ended.is_some().then_some(found))
    })?;
    let status = found.ended.as_ref().map(|end| end.status);
    if status != Some(Status::Completed) {
        let outcomes: Vec<String> = found
            .outcomes
            .values()
            .map(|o| format!("{} {:?} {:?}", o.step, o.status, o.message))
            .collect();
        return Err(format!("{run} is {status:?}: {outcomes:?}"));
    }
    let logs = world.someone.run(["logs", &run, step, "--attempt", "2"]);
    let resumed = logs
        .stdout
        .lines()
        .find_map(|line| line.split_once("resumed at step "))
        .map(|(_, rest)| rest.to_owned());
    let resumed = resumed.ok_or_else(|| format!("it began anew: {}", logs.stdout))?;
    Ok(format!("its training went on at step {resumed}"))
}
