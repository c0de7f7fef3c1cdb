//! What a ticket and a compute say, as the API server takes it and as a process sees it.

use super::*;

pub(super) async fn each_pin_has_its_node(mut world: World) {
    // The newest that n2 takes; n1 has an older driver, n3 no GPU at all.
    let nodes: Api<Node> = Api::all(world.client.clone());
    let labels = nodes.get("n2").await.unwrap().metadata.labels.unwrap();
    let part = |part: &str| -> u32 {
        let label = format!("nvidia.com/cuda.runtime-version.{part}");
        labels[&label].parse().unwrap()
    };
    let newest = (part("major"), part("minor"));
    for (step, pin, node) in [("old", (11, 0), "n1"), ("new", newest, "n2")] {
        let mut ticket = world.ticket(step, "sleep 1");
        ticket.environment = Environment::Image {
            image: IMAGE.to_owned(),
            cuda: Some(CudaPin {
                major: pin.0,
                minor: pin.1,
                minor_compatible: false,
            }),
        };
        ticket.resources.gpus = 1;
        world.start(&ticket).await;
        world.runs(&ticket.attempt).await;
        let pod = world.pods.get(&pod_name(&ticket.attempt)).await.unwrap();
        assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some(node));
        assert_eq!(world.last(&ticket.attempt).await, GONE);
    }
}

/// The API server takes a Pod with everything in it (a dry run): the level *accepted*.
pub(super) async fn every_field_is_accepted(world: World) {
    let name = format!("test-{}", world.namespace);
    let classes: Api<RuntimeClass> = Api::all(world.client.clone());
    let priorities: Api<PriorityClass> = Api::all(world.client.clone());
    let class = json!({"metadata": {"name": name}, "handler": "runc"});
    let priority = json!({"metadata": {"name": name}, "value": 7});
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    let account = json!({"metadata": {"name": "steps"}});
    let made = PostParams::default();
    classes
        .create(&made, &serde_json::from_value(class).unwrap())
        .await
        .unwrap();
    priorities
        .create(&made, &serde_json::from_value(priority).unwrap())
        .await
        .unwrap();
    accounts
        .create(&made, &serde_json::from_value(account).unwrap())
        .await
        .unwrap();
    let compute: Compute = serde_saphyr::from_str(&format!(
        "
node_selector: {{pool: gpu}}
tolerations: [{{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}}]
queue: artists
service_account: steps
priority_class: {name}
gpu_runtime_class: {name}
image_pull_secrets: [registry]
image_pull_policy: IfNotPresent
host_aliases: [{{ip: 10.88.0.1, hostnames: [weed.example]}}]
secrets: {{TOKEN: {{secret: gallery, key: token}}}}
"
    ))
    .unwrap();
    let mut ticket = ticket("everything");
    ticket.environment = Environment::Image {
        image: IMAGE.to_owned(),
        cuda: Some(CudaPin {
            major: 12,
            minor: 6,
            minor_compatible: false,
        }),
    };
    ticket.network = Network::None;
    ticket.resources = Resources {
        cpu_millis: Some(500),
        memory_bytes: Some(1 << 30),
        ephemeral_storage_bytes: Some(1 << 30),
        shm_bytes: Some(1 << 28),
        gpus: 1,
        instances: 1,
        ..Resources::default()
    };
    let broker = BrokerAccess {
        url: "https://broker.test".to_owned(),
        token: "t".to_owned(),
        authority: "a".to_owned(),
    };
    let image = "test.local/launcher:1".to_owned();
    let deliveries = [
        auria_kubernetes::pod::LauncherDelivery::InImage,
        auria_kubernetes::pod::LauncherDelivery::InitContainer {
            image: image.clone(),
        },
        auria_kubernetes::pod::LauncherDelivery::ImageVolume { image },
    ];
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut answers = Vec::new();
    for delivery in &deliveries {
        let made = pod(&ticket, 0, &compute, &broker, delivery, None).unwrap();
        answers.push(world.pods.create(&dry, &made).await);
    }
    let mut claims = compute.clone();
    claims.gpus.claim_template = Some("one-gpu".to_owned());
    let made = pod(&ticket, 0, &claims, &broker, &deliveries[0], None).unwrap();
    answers.push(world.pods.create(&dry, &made).await);
    let _ = classes.delete(&name, &DeleteParams::default()).await;
    let _ = priorities.delete(&name, &DeleteParams::default()).await;
    for answer in answers {
        let taken = answer.unwrap();
        assert_eq!(taken.spec.unwrap().priority, Some(7));
    }
}

/// What a process in a Pod finds: the level *ran*.
pub(super) async fn a_process_sees_what_its_pod_was_given(mut world: World) {
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let secret = json!({"metadata": {"name": "gallery"}, "stringData": {"token": "given"}});
    let secret = serde_json::from_value(secret).unwrap();
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    world.compute = serde_saphyr::from_str(
        "
image_pull_policy: Never
host_aliases: [{ip: 10.9.8.7, hostnames: [weed.example]}]
secrets: {TOKEN: {secret: gallery, key: token}}
node_selector: {kubernetes.io/hostname: n3}
",
    )
    .unwrap();
    world.executor = World::made(
        &world.client,
        &world.namespace,
        &world.compute,
        &world.launcher,
        &world.told,
        &world.relay,
    );
    let does = "
echo user $(id -u) $(id -g)
echo secret $TOKEN
echo alias $(grep -c 10.9.8.7.*weed.example /etc/hosts)
echo shm $(df -k /dev/shm | tail -n 1 | grep -c 65536)
echo token $(ls /var/run/secrets/kubernetes.io 2>/dev/null | grep -c .)
echo capabilities $(grep CapEff /proc/1/status)
echo privileges $(grep NoNewPrivs /proc/1/status)
echo seccomp $(grep Seccomp: /proc/1/status)
touch /x 2>/dev/null && echo root writable || echo root read-only
touch /tmp/x $HOME/x $AURIA_WORK/x && echo rest writable
echo gpus $NVIDIA_VISIBLE_DEVICES
echo node $AURIA_NODE
exit 9";
    let mut ticket = world.ticket("step", does);
    ticket.resources.shm_bytes = Some(64 << 20);
    world.start(&ticket).await;
    let message = world.ends_with(&ticket, Cause::NodeLost).await;
    let (_, said) = message.split_once("status 9: ").unwrap();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = said.trim().lines().map(words).collect();
    assert_eq!(
        lines,
        [
            "user 65532 65532",
            "secret given",
            "alias 1",
            "shm 1",
            "token 0",
            "capabilities CapEff: 0000000000000000",
            "privileges NoNewPrivs: 1",
            "seccomp Seccomp: 2",
            "root read-only",
            "rest writable",
            "gpus void",
            "node n3",
        ]
    );
}
