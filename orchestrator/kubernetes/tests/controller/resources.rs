//! What becomes of resources that nobody drives, that are one too many, or whose namespace
//! or Lease goes.

use super::*;

pub(super) async fn one_that_is_deleted_before_anybody_drives_it_is_canceled_all_the_same(
    mut world: World,
) {
    let run = world.submit("early-1", &["one"]).await;
    world.announce(&run).await;
    world
        .runs
        .delete("early-1", &DeleteParams::default())
        .await
        .unwrap();
    // It is held from its beginning, by nobody's doing.
    let resource = world.runs.get("early-1").await.unwrap();
    assert!(resource.metadata.deletion_timestamp.is_some());
    let _replica = world.replica("a");
    world.is(&run, |resource| resource.is_none()).await;
    assert_eq!(world.end(&run).await.unwrap().status, Status::Canceled);
}

pub(super) async fn one_without_a_run_can_be_deleted(mut world: World) {
    let _replica = world.replica("a");
    let run: RunId = "never-1".parse().unwrap();
    world.announce(&run).await;
    world.phase_is(&run, "Pending").await;
    world
        .runs
        .delete("never-1", &DeleteParams::default())
        .await
        .unwrap();
    world.is(&run, |resource| resource.is_none()).await;
    assert_eq!(world.end(&run).await, None);
}

pub(super) async fn of_two_resources_of_a_run_the_second_is_refused(mut world: World) {
    let run = world.submit("twice-1", &["one"]).await;
    world.announce(&run).await;
    // It comes first in every list.
    let mut second = PipelineRun::of(&run);
    second.metadata.name = Some("a-second".to_owned());
    world
        .runs
        .create(&Default::default(), &second)
        .await
        .unwrap();
    let _replica = world.replica("a");
    world.phase_is(&run, "Completed").await;
    let second: RunId = "a-second".parse().unwrap();
    world.phase_is(&second, "Failed").await;
    let refused = world.runs.get("a-second").await.unwrap();
    assert!(refused.is_refused());
    let said = &refused.status.unwrap().conditions[0].message;
    assert!(said.contains("PipelineRun twice-1"), "{said}");
    // It ends nothing that is not its own.
    world
        .runs
        .delete("a-second", &DeleteParams::default())
        .await
        .unwrap();
    world.is(&second, |resource| resource.is_none()).await;
    assert_eq!(world.end(&run).await.unwrap().status, Status::Completed);
}

pub(super) async fn a_namespace_that_is_deleted_with_its_controller_goes(mut world: World) {
    let run = world.submit("last-1", &["long"]).await;
    let replica = world.replica("a");
    world.announce(&run).await;
    world.pod_runs().await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces
        .delete(&world.namespace, &DeleteParams::default())
        .await
        .unwrap();
    // As its Pod is ended with the namespace.
    replica.shutdown.send_replace(true);
    let began = Instant::now();
    while let Some(namespace) = namespaces.get_opt(&world.namespace).await.unwrap() {
        assert!(began.elapsed() < LONG, "{:#?}", namespace.status);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(super) async fn a_lease_that_is_deleted_is_put_anew(mut world: World) {
    let run = world.submit("lease-1", &["one", "two", "three"]).await;
    let _replica = world.replica("a");
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    holder_is(&leases, "a").await;
    world.announce(&run).await;
    leases
        .delete("controller", &DeleteParams::default())
        .await
        .unwrap();
    holder_is(&leases, "a").await;
    world.phase_is(&run, "Completed").await;
    // Nobody stepped down over that.
    assert_eq!(world.events("Driving").await.len(), 1);
}
