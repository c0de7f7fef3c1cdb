//! Who gets into the API of a real cluster (`cargo xtask cluster up`): tokens for it alone,
//! of those whose roles allow it.

#![expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]

mod support;

use auria_kubernetes::access::{AUDIENCE, Access, Verb, Vouched};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use kube::{Api, Client};
use libtest_mimic::{Arguments, Trial};
use serde_json::json;
use std::process::ExitCode;
use support::cluster;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let home = cluster();
    if let Err(why) = &home {
        eprintln!("left out: {why}");
    }
    let trial = Trial::test("tokens_for_the_api_alone_open_it", || {
        support::case(tokens_for_the_api_alone_open_it)
    });
    let trials = vec![trial.with_ignored_flag(home.is_err())];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A token of the service account `default`.
async fn token(client: &Client, namespace: &str, audience: Option<&str>) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: audience.map(str::to_owned).into_iter().collect(),
            expiration_seconds: Some(600),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let made = accounts
        .create_token_request("default", &PostParams::default(), &request)
        .await
        .unwrap();
    made.status.unwrap().token
}

async fn tokens_for_the_api_alone_open_it(client: Client, namespace: String) {
    let access = Access::new(client.clone(), &namespace, vec![AUDIENCE.to_owned()]);
    let user = format!("system:serviceaccount:{namespace}:default");
    let theirs = token(&client, &namespace, Some(AUDIENCE)).await;
    // The token is whose it is; their roles say nothing yet.
    let forbidden = Vouched::Forbidden { user: user.clone() };
    assert_eq!(access.vouch(&theirs, Verb::Get).await.unwrap(), forbidden);
    let params = PostParams::default();
    let role: Role = serde_json::from_value(json!({
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": ["pipelines.auria.dev"], "resources": ["pipelineruns"], "verbs": ["get"]}],
    }))
    .unwrap();
    Api::<Role>::namespaced(client.clone(), &namespace)
        .create(&params, &role)
        .await
        .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }))
    .unwrap();
    Api::<RoleBinding>::namespaced(client.clone(), &namespace)
        .create(&params, &binding)
        .await
        .unwrap();
    let began = std::time::Instant::now();
    // Roles are known a moment later.
    while access.vouch(&theirs, Verb::Get).await.unwrap()
        != (Vouched::Allowed { user: user.clone() })
    {
        assert!(began.elapsed() < support::LONG, "the role is not known");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let forbidden = Vouched::Forbidden { user };
    assert_eq!(
        access.vouch(&theirs, Verb::Update).await.unwrap(),
        forbidden
    );
    // What opens the cluster itself, or anything else, is nobody's here.
    for audience in [None, Some("vault")] {
        let others = token(&client, &namespace, audience).await;
        assert_eq!(
            access.vouch(&others, Verb::Get).await.unwrap(),
            Vouched::Nobody
        );
    }
    assert_eq!(access.vouch("", Verb::Get).await.unwrap(), Vouched::Nobody);
    assert_eq!(
        access.vouch("nonsense", Verb::Get).await.unwrap(),
        Vouched::Nobody
    );
}
