//! A feature pulls in what it needs, and nothing of another.

use std::process::Command;

/// The features with the crates that each alone may pull in.
const OWN: [(&str, &[&str]); 8] = [
    ("axum", &["axum"]),
    ("initiator", &["backoff", "reqwest"]),
    ("mysql_async", &["mysql_async", "mysql_common"]),
    ("redis", &["redis"]),
    ("rusqlite", &["libsqlite3-sys", "rusqlite"]),
    ("sqlx-mysql", &["sqlx-mysql"]),
    ("sqlx-postgres", &["sqlx-postgres"]),
    ("tokio-postgres", &["postgres-protocol", "tokio-postgres"]),
];

/// What no feature may: a second TLS provider, or what stands in the way of another database's crate.
const NONE: [&str; 5] = ["aws-lc-sys", "native-tls", "openssl-sys", "sqlx-macros", "sqlx-sqlite"];

/// The crates that are built with a feature.
fn built_with(feature: &str) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .args(["--package", "tcc-client", "--no-default-features", "--features", feature])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let names = String::from_utf8(tree.stdout).unwrap();
    names.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
}

#[test]
fn a_feature_pulls_in_nothing_of_another() {
    for feature in OWN.iter().map(|(feature, _)| *feature).chain([""]) {
        let built = built_with(feature);
        assert!(built.contains(&"tcc-core".to_owned()), "{feature}: {built:?}");
        for (other, crates) in OWN {
            for name in crates {
                let there = built.iter().any(|built| built == name);
                assert_eq!(there, other == feature, "{name} with the feature {feature:?}");
            }
        }
        for name in NONE {
            assert!(!built.iter().any(|built| built == name), "{name} with the feature {feature:?}");
        }
    }
}
