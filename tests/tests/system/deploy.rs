//! What is under `deploy/` fits together and fits the programs: kinds, names, flags, rights, keys.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod objects;
mod secrets;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    sync::Arc,
};

use clap::Parser as _;
use coffer_catalog::resolve::{Request, expand_task};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    apps::v1::{Deployment, StatefulSet},
    core::v1::{Namespace, Service, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use objects::{Object, documents, named, objects, of_kind, root};

#[test]
fn every_object_is_what_it_says_and_stands_there_once() {
    let mut seen = BTreeMap::new();
    for object in objects() {
        match object.kind() {
            "Namespace" => drop(object.is::<Namespace>()),
            "ServiceAccount" => drop(object.is::<ServiceAccount>()),
            "Secret" => drop(object.is::<k8s_openapi::api::core::v1::Secret>()),
            "Service" => drop(object.is::<Service>()),
            "Deployment" => drop(object.is::<Deployment>()),
            "StatefulSet" => drop(object.is::<StatefulSet>()),
            "ClusterRole" => drop(object.is::<ClusterRole>()),
            "ClusterRoleBinding" => drop(object.is::<ClusterRoleBinding>()),
            "ValidatingWebhookConfiguration" => {
                drop(object.is::<ValidatingWebhookConfiguration>());
            }
            "Role" => drop(object.is::<Role>()),
            "RoleBinding" => drop(object.is::<RoleBinding>()),
            "Function" => drop(object.is::<coffer_api::Function>()),
            "Task" => drop(object.is::<coffer_api::Task>()),
            "Repository" => drop(object.is::<coffer_api::Repository>()),
            "AppBinding" => drop(object.is::<coffer_api::AppBinding>()),
            "BackupConfiguration" => drop(object.is::<coffer_api::BackupConfiguration>()),
            "CustomResourceDefinition" => {
                assert!(object.file.starts_with("crds/"), "{}", object.file)
            }
            "Issuer" | "Certificate" => {
                assert!(object.file.starts_with("install/cert-manager/"), "{}", object.file)
            }
            other => panic!("{}: nothing here checks a {other}", object.file),
        }
        let key =
            format!("{} {}/{}", object.kind(), object.text("/metadata/namespace"), object.name());
        if let Some(first) = seen.insert(key.clone(), object.file.clone()) {
            panic!("{key} stands in {first} and in {}", object.file);
        }
    }
}

#[test]
fn kustomizations_name_every_file_beside_them() {
    let deploy = root().join("deploy");
    for folder in ["", "catalog", "install", "install/cert-manager", "dev"] {
        let folder = deploy.join(folder);
        let listed = &documents(&folder.join("kustomization.yaml"))[0]["resources"];
        let listed: BTreeSet<String> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        for name in &listed {
            assert!(
                folder.join(name).exists(),
                "{} lists {name}, which is not there",
                folder.display()
            );
        }
        let mut beside = Vec::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && path.extension().is_some_and(|extension| extension == "yaml") {
                beside.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
        if folder == deploy {
            let crds = fs::read_dir(deploy.join("crds")).unwrap();
            beside
                .extend(crds.map(|entry| format!("crds/{}", entry.unwrap().file_name().display())));
        }
        beside.retain(|name| name != "kustomization.yaml");
        for name in beside {
            assert!(listed.contains(&name), "{} does not list {name}", folder.display());
        }
    }
}

#[test]
fn every_task_resolves_and_the_worker_takes_its_arguments() {
    let function = |object: &&Object| {
        (object.name().to_owned(), Arc::new(object.is::<coffer_api::Function>().spec))
    };
    let functions: BTreeMap<_, _> = of_kind("Function").iter().map(function).collect();
    let mut used = BTreeSet::new();
    for task in of_kind("Task") {
        let restore = task.name().starts_with("redis-restore-");
        assert!(restore || task.name().starts_with("redis-backup-"), "{}", task.name());
        let session = if restore { "RESTORE_SESSION" } else { "BACKUP_SESSION" };
        let values = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for params in [
            &[][..],
            &[("args", "-n 20"), ("waitTimeout", "60")],
            &[("args", ""), ("waitTimeout", "")],
        ] {
            let request = Request {
                task: task.name().to_owned(),
                params: values(params),
                inputs: values(&[
                    (session, "s-1"),
                    ("NAMESPACE", "demo"),
                    ("HOSTNAME", "host-0"),
                    ("TARGET_NAME", "r"),
                ]),
            };
            let spec = task.is::<coffer_api::Task>().spec;
            used.extend(spec.steps.iter().map(|step| step.name.clone()));
            assert_eq!(spec.steps[0].name, task.name());
            let resolved = expand_task(request, &spec).unwrap().resolve(&functions).unwrap();
            assert_eq!(resolved.steps.len(), 1, "{}", task.name());
            let container = &resolved.steps[0].container;
            assert_eq!(container.image.as_deref(), Some(IMAGE));
            let words =
                ["coffer-worker".to_owned()].into_iter().chain(container.args.clone().unwrap());
            let args = coffer_worker::args::Args::try_parse_from(words)
                .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(matches!(args.job, coffer_worker::args::Job::RestoreRedis(_)), restore);
        }
    }
    let functions: BTreeSet<_> = functions.into_keys().collect();
    assert_eq!(used, functions, "left: Functions that Tasks use, right: Functions");
    for version in ["5.0.13", "6.2.5", "7.0.5"] {
        for verb in ["backup", "restore"] {
            assert!(
                functions.contains(&format!("redis-{verb}-{version}")),
                "Stash has redis-{verb}-{version}"
            );
        }
    }
}

/// Name and version of the image are in many places; this is the one that says which they are.
const IMAGE: &str = concat!("ghcr.io/coffer-backup/coffer:", env!("CARGO_PKG_VERSION"));

#[test]
fn every_deployment_starts_a_program_with_flags_that_it_takes() {
    let accounts = named("ServiceAccount");
    let script = fs::read_to_string(root().join("deploy/install/secrets")).unwrap();
    let mut services = BTreeSet::new();
    let workloads = of_kind("Deployment").into_iter().chain(of_kind("StatefulSet"));
    for object in workloads.filter(|object| object.file.starts_with("install/")) {
        let template = match object.kind() {
            "Deployment" => object.is::<Deployment>().spec.template,
            _ => object.is::<StatefulSet>().spec.template,
        };
        let pod = template.spec.unwrap();
        let container = &pod.containers[0];
        let name = container.name.as_str();
        assert_eq!(object.name(), format!("coffer-{name}"));
        assert_eq!(container.image.as_deref(), Some(IMAGE));
        let command = container.command.clone().unwrap();
        assert_eq!(command, [format!("/usr/local/bin/coffer-{name}")]);
        assert!(accounts.contains(pod.service_account_name.as_deref().unwrap()));

        let words = command.into_iter().chain(container.args.clone().unwrap());
        let parsed = match name {
            "catalog" => coffer_catalog::args::Args::try_parse_from(words).map(drop),
            "metrics-gateway" => {
                coffer_metrics_gateway::args::Args::try_parse_from(words).map(drop)
            }
            "orchestrator" => coffer_orchestrator::args::Args::try_parse_from(words).map(drop),
            "storage-gateway" => {
                coffer_storage_gateway::args::Args::try_parse_from(words).map(drop)
            }
            other => panic!("{other} is no service"),
        };
        parsed.unwrap_or_else(|error| panic!("{name}: {error}"));

        // What it mounts, somebody makes; what its flags name, it mounts.
        let mounts = container.volume_mounts.clone().unwrap_or_default();
        for volume in pod.volumes.unwrap() {
            if let Some(secret) = volume.secret.and_then(|secret| secret.secret_name) {
                let made = secret.replace(name, "$service");
                assert!(script.contains(&made), "{secret} is made by nobody");
            }
            assert!(
                mounts.iter().any(|mount| mount.name == volume.name),
                "{name} does not mount {}",
                volume.name
            );
        }
        for path in container
            .args
            .iter()
            .flatten()
            .filter_map(|arg| arg.split_once('='))
            .map(|(_, value)| value)
        {
            let mounted = mounts.iter().any(|mount| path.starts_with(&mount.mount_path));
            assert!(mounted || !path.starts_with('/'), "{name}: {path} is on no volume");
        }
        let context = container.security_context.as_ref().unwrap();
        assert_eq!(context.read_only_root_filesystem, Some(true), "{name}");
        assert_eq!(pod.security_context.unwrap().run_as_non_root, Some(true), "{name}");
        assert!(
            container.readiness_probe.is_some() && container.liveness_probe.is_some(),
            "{name}"
        );
        services.insert(name.to_owned());
    }
    assert_eq!(services.len(), 4);
    let own = services.iter().map(String::as_str);
    // The orchestrator's webhook has a Service of its own, which leads to those that wait for the Lease, too.
    let endpoints: BTreeSet<String> =
        own.chain(["admission"]).map(|name| format!("coffer-{name}")).collect();
    let installed =
        of_kind("Service").into_iter().filter(|object| object.file.starts_with("install/"));
    assert_eq!(
        installed.map(|object| object.name().to_owned()).collect::<BTreeSet<_>>(),
        endpoints
    );
}

#[test]
fn rights_are_few_and_spelled_out() {
    let role = |name: &str| {
        let roles = of_kind("ClusterRole");
        roles.iter().find(|role| role.name() == name).unwrap().is::<ClusterRole>().rules.unwrap()
    };
    for service in ["orchestrator", "catalog", "storage-gateway"] {
        for rule in role(&format!("coffer-{service}")) {
            let resources = rule.resources.clone().unwrap_or_default();
            assert!(
                !resources.contains(&"*".to_owned()) && !rule.verbs.contains(&"*".to_owned()),
                "{service}"
            );
            if resources.contains(&"secrets".to_owned()) {
                assert!(
                    !rule.verbs.iter().any(|verb| verb == "list" || verb == "watch"),
                    "{service} reads all Secrets"
                );
                assert_ne!(service, "catalog");
            }
        }
    }
    for binding in of_kind("ClusterRoleBinding").iter().chain(&of_kind("RoleBinding")) {
        assert!(
            !binding.value.to_string().contains("coffer-metrics-gateway"),
            "the metrics-gateway needs no rights"
        );
        let to = binding.text("/roleRef/name");
        let kind = binding.text("/roleRef/kind");
        assert!(
            named(kind).contains(to),
            "{} {} binds {kind} {to}, which is not there",
            binding.kind(),
            binding.name()
        );
    }
}

/// Starlark is a part of Python's syntax: what Python parses, without the statements that Starlark lacks.
#[test]
fn the_tiltfile_is_starlark() {
    const CHECK: &str = r#"
import ast, sys
tree = ast.parse(open(sys.argv[1]).read(), sys.argv[1])
lacking = (ast.AsyncFunctionDef, ast.Await, ast.ClassDef, ast.Delete, ast.Global, ast.Import, ast.ImportFrom, ast.JoinedStr,
           ast.NamedExpr, ast.Nonlocal, ast.Raise, ast.Set, ast.SetComp, ast.GeneratorExp, ast.Try, ast.While, ast.With,
           ast.Yield, ast.YieldFrom, ast.Assert, ast.AnnAssign, ast.Is, ast.IsNot, ast.Pow, ast.MatMult)
bad = [f"line {node.lineno}: {type(node).__name__}" for node in ast.walk(tree) if isinstance(node, lacking) and hasattr(node, "lineno")]
files = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("deploy")]
sys.exit("\n".join(bad)) if bad else print("\n".join(files))
"#;
    let output =
        Command::new("python3").args(["-c", CHECK]).arg(root().join("Tiltfile")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let named = String::from_utf8(output.stdout).unwrap();
    assert!(named.lines().count() >= 4, "{named}");
    for path in named.lines() {
        assert!(root().join(path).exists(), "the Tiltfile names {path}, which is not there");
    }
}

#[test]
fn the_image_has_every_program_that_something_starts() {
    let text = fs::read_to_string(root().join("deploy/images/Dockerfile")).unwrap();
    for program in ["orchestrator", "catalog", "storage-gateway", "metrics-gateway", "worker"] {
        assert!(text.contains(&format!("target/release/coffer-{program}")), "{program}");
        assert!(text.contains(&format!("--package coffer-{program}")), "{program}");
    }
    assert!(text.contains("USER 65532") && text.contains(":nonroot"));
    let ignored = fs::read_to_string(root().join(".dockerignore")).unwrap();
    for needed in [".cargo", "Cargo.lock", "Cargo.toml", "deploy", "proto", "services", "tests"] {
        assert!(
            ignored.lines().any(|line| line == format!("!{needed}")),
            "the build needs {needed}"
        );
    }
}
