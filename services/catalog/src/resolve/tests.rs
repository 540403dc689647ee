//! Who overrides whom, what is named when something is missing, and the shipped catalog as golden files.

use super::*;
use coffer_api::target::Param;
use k8s_openapi::api::core::v1::EnvVar;

fn values(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn function(image: &str, args: &[&str]) -> FunctionSpec {
    FunctionSpec {
        image: image.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..FunctionSpec::default()
    }
}

fn step(name: &str, params: &[(&str, &str)]) -> FunctionRef {
    let params = params
        .iter()
        .map(|(name, value)| Param { name: (*name).to_owned(), value: (*value).to_owned() });
    FunctionRef { name: name.to_owned(), params: params.collect() }
}

fn run(
    request: Request,
    steps: Vec<FunctionRef>,
    functions: &[(&str, FunctionSpec)],
) -> Result<Resolved, Error> {
    let task = TaskSpec { steps, volumes: Vec::new() };
    let functions =
        functions.iter().map(|(name, spec)| ((*name).to_owned(), Arc::new(spec.clone())));
    expand_task(request, &task)?.resolve(&functions.collect())
}

fn request(params: &[(&str, &str)], inputs: &[(&str, &str)]) -> Request {
    Request { task: "t".to_owned(), params: values(params), inputs: values(inputs) }
}

fn args(resolved: &Resolved) -> Vec<String> {
    resolved.steps[0].container.args.clone().unwrap()
}

#[test]
fn stronger_values_win() {
    let functions = [("f", function("i", &["${A:=default}", "${ADDON_IMAGE:=none}"]))];
    let with = |step_params, inputs, params| {
        let resolved = run(request(params, inputs), vec![step("f", step_params)], &functions);
        args(&resolved.unwrap())[0].clone()
    };
    assert_eq!(with(&[], &[], &[]), "default");
    assert_eq!(with(&[("A", "step")], &[], &[]), "step");
    assert_eq!(with(&[("A", "one"), ("A", "two")], &[], &[]), "two");
    assert_eq!(with(&[("A", "step")], &[("A", "input")], &[]), "input");
    assert_eq!(with(&[("A", "step")], &[("A", "input")], &[("A", "user")]), "user");
    assert_eq!(with(&[("A", "step")], &[("A", "input")], &[("A", "")]), "");

    let steps = vec![step("f", &[("ADDON_IMAGE", "step")])];
    let resolved = run(request(&[("ADDON_IMAGE", "user")], &[]), steps, &functions).unwrap();
    assert_eq!(args(&resolved)[1], "i");
}

#[test]
fn every_string_is_expanded_and_a_value_is_not() {
    let mut spec = function("${REGISTRY:=ghcr.io}/x", &["--args=${args:=}"]);
    spec.command = vec!["${BIN:=worker}".to_owned()];
    spec.working_dir = Some("/${DIR:=tmp}".to_owned());
    spec.volume_mounts =
        serde_json::from_str(r#"[{"name":"${VOLUME}","mountPath":"/v"}]"#).unwrap();
    spec.runtime_settings = serde_json::from_str(
        r#"{"resources":{"limits":{"memory":"${MEMORY:=1Gi}"}},"securityContext":{"runAsUser":7},
            "env":[{"name":"E","value":"${E:=e}"}],"nice":{"adjustment":5},"ionice":{"class":2,"classData":4}}"#,
    )
    .unwrap();
    let task = TaskSpec {
        steps: vec![step("f-${VERSION}", &[("VOLUME", "${VOLUME_OF_TASK:=data}")])],
        volumes: serde_json::from_str(r#"[{"name":"${VOLUME_OF_TASK:=data}","emptyDir":{}}]"#)
            .unwrap(),
    };
    let awkward = "-n 5 \"quoted\" \\ $(X) ${NONE} $$\nend";
    let expanded =
        expand_task(request(&[("args", awkward)], &[("VERSION", "7.0")]), &task).unwrap();
    assert_eq!(expanded.functions(), ["f-7.0"]);
    let functions = BTreeMap::from([("f-7.0".to_owned(), Arc::new(spec))]);
    let Resolved { steps, volumes } = expanded.resolve(&functions).unwrap();
    let Step { function, index, container } = &steps[0];
    assert_eq!((function.as_str(), *index, container.name.as_str()), ("f-7.0", 0, "f-7-0-0"));
    assert_eq!(container.image.as_deref(), Some("ghcr.io/x"));
    assert_eq!(container.image_pull_policy.as_deref(), Some("IfNotPresent"));
    assert_eq!(container.command.as_deref(), Some(&["worker".to_owned()][..]));
    assert_eq!(container.args, Some(vec![format!("--args={awkward}")]));
    assert_eq!(container.working_dir.as_deref(), Some("/tmp"));
    assert_eq!(container.volume_mounts.as_ref().unwrap()[0].name, "data");
    assert_eq!(volumes[0].name, "data");
    assert_eq!(container.resources.as_ref().unwrap().limits.as_ref().unwrap()["memory"].0, "1Gi");
    assert_eq!(container.security_context.as_ref().unwrap().run_as_user, Some(7));
    let env = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    };
    let expected = [
        env("NICE_ADJUSTMENT", "5"),
        env("IONICE_CLASS", "2"),
        env("IONICE_CLASS_DATA", "4"),
        env("E", "e"),
    ];
    assert_eq!(container.env.as_deref(), Some(&expected[..]));
}

#[test]
fn what_is_missing_is_named_with_its_place() {
    let functions = [
        ("f", function("i", &["ok", "--x=${NOBODY}"])),
        ("g", function("i", &[])),
        ("bare", function("", &[])),
        (STATUS_FUNCTION, function("", &["${REPOSITORY_SECRET_NAME}"])),
    ];
    let message = |steps: Vec<FunctionRef>, class| {
        let error = run(request(&[], &[]), steps, &functions).unwrap_err();
        assert_eq!(error.class(), class);
        coffer_runtime::fault::chain(&error)
    };
    let text = message(vec![step("g", &[]), step("f", &[])], Class::Invalid);
    for part in ["\"f\"", "step 1", "\"t\"", "spec.args[1]", "NOBODY", "column 5"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = message(vec![step("gone", &[])], Class::NotFound);
    assert!(text.contains("\"gone\"") && text.contains("\"t\""), "{text}");
    let text = message(vec![step("${WHICH}", &[])], Class::Invalid);
    assert!(text.contains("\"t\": spec.steps[0].name: variable WHICH"), "{text}");
    let text = message(vec![step("bare", &[])], Class::Invalid);
    assert!(text.contains("no spec.image"), "{text}");
    // The status step gets no container, yet what it misses is found; an image it does not need.
    let text = message(vec![step("g", &[]), step(STATUS_FUNCTION, &[])], Class::Invalid);
    assert!(text.contains("REPOSITORY_SECRET_NAME"), "{text}");
    let known = request(&[], &[("REPOSITORY_SECRET_NAME", "s")]);
    let steps = vec![step(STATUS_FUNCTION, &[]), step("g", &[])];
    let resolved = run(known.clone(), steps, &functions).unwrap();
    assert_eq!(resolved.steps.len(), 1);
    assert_eq!((resolved.steps[0].index, resolved.steps[0].container.name.as_str()), (1, "g-1"));
    let error = run(known, vec![step(STATUS_FUNCTION, &[])], &functions).unwrap_err();
    assert!(error.to_string().contains("no step that runs"), "{error}");
}

#[test]
fn params_that_nothing_refers_to_are_refused_by_name() {
    let mut inner = function("i", &["--a=${a:=}", "--b=${B:=${nested:=}}", "${ADDON_IMAGE}"]);
    inner.working_dir = Some("/${NAMESPACE}".to_owned());
    let functions = [("f-1", inner), (STATUS_FUNCTION, function("", &["${outputDir:=}"]))];
    let steps = || vec![step("f-${V:=1}", &[("own", "${ofStep:=}")]), step(STATUS_FUNCTION, &[])];
    let with = |params: &[(&str, &str)]| {
        run(request(params, &[("NAMESPACE", "n"), ("HOST", "h")]), steps(), &functions)
    };
    for fine in ["a", "B", "nested", "V", "ofStep", "outputDir", "NAMESPACE", "HOST"] {
        let value = if fine == "V" { "1" } else { "x" };
        with(&[(fine, value)]).unwrap_or_else(|error| panic!("{fine}: {error}"));
    }
    // A step's own parameter may be of no use to its Function, as in Stash's Tasks.
    let error = with(&[("a", "1"), ("A", "2"), ("own", "3")]).unwrap_err();
    assert_eq!(error.class(), Class::Invalid);
    let text = error.to_string();
    for part in ["\"t\" knows no param A, own:", "known are B, V, a, nested, ofStep, outputDir"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("NAMESPACE") && !text.contains("ADDON_IMAGE"), "{text}");
}

#[test]
fn keys_that_fall_together_are_refused() {
    let mut spec = function("i", &[]);
    spec.runtime_settings =
        serde_json::from_str(r#"{"resources":{"limits":{"cpu":"1","${RESOURCE:=cpu}":"2"}}}"#)
            .unwrap();
    let error = run(request(&[], &[]), vec![step("f", &[])], &[("f", spec)]).unwrap_err();
    let text = coffer_runtime::fault::chain(&error);
    assert!(text.contains("spec.runtimeSettings.resources.limits: the key \"cpu\""), "{text}");
}

#[test]
fn the_whole_object_is_bounded() {
    let args: Vec<&str> = std::iter::repeat_n("${BIG}", 40).collect();
    let big = "x".repeat(100 * 1024);
    let steps = vec![step("f", &[])];
    let error = run(request(&[("BIG", &big)], &[]), steps, &[("f", function("i", &args))]);
    let text = coffer_runtime::fault::chain(&error.unwrap_err());
    assert!(text.contains("larger than"), "{text}");
}

/// The shipped catalog, resolved with what the orchestrator injects: `COFFER_GOLDEN=write` writes the files anew.
#[test]
fn the_shipped_tasks_resolve_to_their_golden_files() {
    use serde::Deserialize as _;
    let text = include_str!("../../../../deploy/catalog/redis.yaml");
    let mut functions = BTreeMap::new();
    let mut tasks = BTreeMap::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde_json::Value::deserialize(document).unwrap();
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        if value["kind"] == "Function" {
            let function: coffer_api::Function = serde_json::from_value(value).unwrap();
            functions.insert(name, Arc::new(function.spec));
        } else {
            let task: coffer_api::Task = serde_json::from_value(value).unwrap();
            tasks.insert(name, task.spec);
        }
    }
    let session = [
        ("NAMESPACE", "demo"),
        ("INVOKER_NAME", "orders"),
        ("TARGET_NAME", "orders-redis"),
        ("TARGET_NAMESPACE", "demo"),
    ];
    let backup = [("BACKUP_SESSION", "orders-1"), ("HOSTNAME", "host-0")];
    let restore = [
        ("RESTORE_SESSION", "back"),
        ("HOSTNAME", ""),
        ("SOURCE_HOSTNAME", ""),
        ("RESTORE_SNAPSHOTS", ""),
    ];
    for (name, own) in [("redis-backup-7.0.5", &backup[..]), ("redis-restore-7.0.5", &restore)] {
        let inputs = session.iter().chain(own).copied().collect::<Vec<_>>();
        let params = [("args", "-n 20"), ("waitTimeout", "60")];
        let request = Request { task: name.to_owned(), ..request(&params, &inputs) };
        let resolved = expand_task(request, &tasks[name]).unwrap().resolve(&functions).unwrap();
        let Resolved { steps, volumes } = resolved;
        assert!(volumes.is_empty());
        let [step] = &steps[..] else { panic!("{name} has {} steps", steps.len()) };
        let container = serde_json::to_string_pretty(&step.container).unwrap() + "\n";
        let path = format!("{}/src/resolve/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("COFFER_GOLDEN").is_some() {
            std::fs::write(&path, &container).unwrap();
        }
        assert_eq!(container, std::fs::read_to_string(&path).unwrap(), "{path}");
    }
}
