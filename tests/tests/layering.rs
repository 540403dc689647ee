//! Who may import whom, from `cargo metadata`: the walls that ARCHITECTURE.md draws. A crate that is new must be given its
//! place here, or the test fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// What one crate may use.
struct Rule {
    name: &'static str,
    /// Crates of ours.
    ours: &'static [&'static str],
    /// Crates of others that would break the wall.
    never: &'static [&'static str],
}

/// Clients and servers: what a crate of pure data or formats has nothing to do with.
const NETWORK: &[&str] = &["axum", "hyper", "hyper-util", "redis", "tokio", "tonic", "tower"];
const KUBERNETES: &[&str] = &["k8s-openapi", "kube"];

const RULES: &[Rule] = &[
    Rule { name: "proto", ours: &[], never: KUBERNETES },
    // kube only for its derive, see `the_api_has_no_client`.
    Rule { name: "api", ours: &[], never: NETWORK },
    Rule {
        name: "rdb",
        ours: &[],
        never: &["axum", "hyper", "k8s-openapi", "kube", "object_store", "redis", "tokio", "tonic"],
    },
    Rule {
        name: "restic",
        ours: &[],
        never: &["axum", "k8s-openapi", "kube", "prost", "redis", "tonic"],
    },
    // kube only behind its feature, see `no_worker_and_no_metrics_gateway_knows_kubernetes`.
    Rule { name: "runtime", ours: &[], never: &["object_store", "prost", "redis"] },
    Rule {
        name: "orchestrator",
        ours: &["api", "proto", "runtime"],
        never: &["object_store", "redis"],
    },
    Rule { name: "catalog", ours: &["api", "proto", "runtime"], never: &["object_store", "redis"] },
    Rule {
        name: "storage-gateway",
        ours: &["api", "proto", "restic", "runtime"],
        never: &["redis"],
    },
    Rule {
        name: "worker",
        ours: &["api", "proto", "rdb", "runtime"],
        never: &["k8s-openapi", "kube", "object_store"],
    },
    Rule {
        name: "metrics-gateway",
        ours: &["proto", "runtime"],
        never: &["k8s-openapi", "kube", "object_store", "redis"],
    },
    Rule {
        name: "cli",
        ours: &["api", "proto", "rdb", "runtime", "standalone", "worker"],
        never: &["object_store", "redis"],
    },
    Rule {
        name: "standalone",
        ours: &[
            "api",
            "catalog",
            "metrics-gateway",
            "orchestrator",
            "runtime",
            "storage-gateway",
            "worker",
        ],
        never: &["object_store", "redis"],
    },
    Rule {
        name: "tests",
        ours: &[
            "api",
            "catalog",
            "cli",
            "metrics-gateway",
            "orchestrator",
            "proto",
            "runtime",
            "storage-gateway",
            "worker",
        ],
        never: &[],
    },
];

/// A dependency as its crate declares it.
#[derive(Clone, Debug)]
struct Edge {
    to: String,
    features: BTreeSet<String>,
    default_features: bool,
    optional: bool,
    kind: Option<String>,
}

/// Every crate of the workspace by its folder's name, with what it declares.
fn workspace() -> BTreeMap<String, Vec<Edge>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let edges = package["dependencies"].as_array().unwrap().iter().map(|edge| Edge {
                to: text(&edge["name"]),
                features: edge["features"].as_array().unwrap().iter().map(text).collect(),
                default_features: edge["uses_default_features"].as_bool().unwrap(),
                optional: edge["optional"].as_bool().unwrap(),
                kind: edge["kind"].as_str().map(str::to_owned),
            });
            let name = text(&package["name"]);
            let folder = name
                .strip_prefix("coffer-")
                .unwrap_or_else(|| panic!("{name} is not called coffer-…"));
            (folder.to_owned(), edges.collect())
        })
        .collect()
}

/// What the built program links.
fn normal(edges: &[Edge]) -> impl Iterator<Item = &Edge> {
    edges.iter().filter(|edge| edge.kind.is_none())
}

fn edge<'a>(workspace: &'a BTreeMap<String, Vec<Edge>>, from: &str, to: &str) -> Option<&'a Edge> {
    normal(&workspace[from]).find(|edge| edge.to == to)
}

#[test]
fn every_crate_has_a_rule_and_keeps_it() {
    let workspace = workspace();
    let ruled: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    let crates: BTreeSet<&str> = workspace.keys().map(String::as_str).collect();
    assert_eq!(ruled, crates, "left: the crates with a rule, right: the crates");

    let mut broken = Vec::new();
    for Rule { name, ours, never } in RULES {
        for edge in normal(&workspace[*name]) {
            let allowed = match edge.to.strip_prefix("coffer-") {
                Some(own) => ours.contains(&own),
                None => !never.contains(&edge.to.as_str()) || (*name == "runtime" && edge.optional),
            };
            if !allowed {
                broken.push(format!("{name} must not depend on {}", edge.to));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_rule_allows_only_what_is_used() {
    let workspace = workspace();
    for Rule { name, ours, .. } in RULES {
        // The tests use the services' flags, as dev-dependencies.
        let used: BTreeSet<_> = workspace[*name].iter().map(|edge| edge.to.as_str()).collect();
        for own in *ours {
            assert!(
                used.contains(format!("coffer-{own}").as_str()),
                "{name} does not use {own} any more: take it out of its rule"
            );
        }
    }
}

#[test]
fn nothing_imports_the_tests_and_only_the_cli_and_the_tests_the_standalone_system() {
    for (name, edges) in workspace() {
        let uses = |other: &str| edges.iter().any(|edge| edge.to == other);
        assert!(!uses("coffer-tests"), "{name}");
        assert!(!uses("coffer-standalone") || ["cli", "tests"].contains(&name.as_str()), "{name}");
    }
    let edge =
        workspace()["cli"].iter().find(|edge| edge.to == "coffer-standalone").cloned().unwrap();
    assert!(edge.optional, "`coffer` must build without the standalone system");
}

#[test]
fn the_api_has_no_client() {
    let workspace = workspace();
    let kube = edge(&workspace, "api", "kube").unwrap();
    assert!(!kube.default_features, "the default features of kube are its client");
    assert_eq!(kube.features, BTreeSet::from(["derive".to_owned()]));
}

#[test]
fn no_worker_and_no_metrics_gateway_knows_kubernetes() {
    let workspace = workspace();
    for name in ["worker", "metrics-gateway"] {
        let runtime = edge(&workspace, name, "coffer-runtime").unwrap();
        assert!(!runtime.features.contains("kube"), "{name} takes the runtime's kube feature");
    }
    for kubernetes in KUBERNETES {
        let edge = edge(&workspace, "runtime", kubernetes).unwrap();
        assert!(edge.optional, "{kubernetes} of the runtime must stay behind its feature");
    }
}

#[test]
fn tls_has_one_provider_and_it_is_not_openssl() {
    let lock =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    for library in ["openssl-sys", "native-tls", "boring-sys"] {
        assert!(
            !lock.contains(&format!("name = \"{library}\"")),
            "{library} came in through a dependency"
        );
    }
    for (name, edges) in workspace() {
        for edge in edges.iter().filter(|edge| edge.to == "rustls" || edge.to == "tokio-rustls") {
            assert!(
                !edge.features.contains("ring"),
                "{name} asks {} for ring; the provider is aws-lc-rs",
                edge.to
            );
        }
    }
}

/// A document that names a file which is gone leads nobody anywhere.
#[test]
fn the_documents_name_files_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for document in [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "README.md",
        "SECURITY.md",
        "deploy/install/README.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let words = text.split(|c: char| c.is_whitespace() || "`()[],:;<>\"".contains(c));
        let folders = ["deploy/", "proto/", "services/", "tests/"];
        let paths: Vec<_> = words
            .map(|word| word.trim_end_matches('.'))
            .filter(|word| folders.iter().any(|folder| word.starts_with(folder)))
            .collect();
        assert!(!paths.is_empty(), "{document}");
        for path in paths {
            assert!(root.join(path).exists(), "{document} names {path}, which is not there");
        }
    }
}
