//! The store's rules, one test each; the case list is the original's, with its defects turned into refusals.
use super::*;
use crate::exposition::{parse::parse, render};

const NO_LIMITS: Limits = Limits { groups: usize::MAX, series: usize::MAX };

fn own_kind(name: &str) -> Option<Kind> {
    (name == "pushgateway_build_info").then_some(Kind::Gauge)
}

fn store(limits: Limits) -> Store {
    Store::new(limits, own_kind)
}

fn key(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn push_at(
    store: &Store,
    seconds: i64,
    mode: Mode,
    group: &[(&str, &str)],
    body: &str,
) -> Result<(), String> {
    let parsed = parse(body.as_bytes()).unwrap();
    let push = Push {
        grouping: key(group),
        families: parsed.families,
        timestamps: parsed.timestamps,
        mode,
    };
    store.push(push, at(seconds)).map_err(|error| error.to_string())
}

fn put(store: &Store, group: &[(&str, &str)], body: &str) -> Result<(), String> {
    push_at(store, 1, Mode::Replace, group, body)
}

fn post(store: &Store, group: &[(&str, &str)], body: &str) -> Result<(), String> {
    push_at(store, 1, Mode::Merge, group, body)
}

fn text(store: &Store) -> String {
    let (groups, _) = store.groups();
    groups
        .iter()
        .map(|group| render(group.families.values().map(|stored| &stored.family)))
        .collect()
}

const A: &[(&str, &str)] = &[("job", "a")];
const B: &[(&str, &str)] = &[("job", "b")];

#[test]
fn post_replaces_families_and_put_replaces_the_group() {
    let store = store(NO_LIMITS);
    put(&store, A, "x{l=\"1\"} 1\ny 1\n").unwrap();
    post(&store, A, "x{l=\"2\"} 2\n").unwrap();
    let after_post = "# TYPE x untyped\nx{instance=\"\",job=\"a\",l=\"2\"} 2\n\
        # TYPE y untyped\ny{instance=\"\",job=\"a\"} 1\n";
    assert_eq!(text(&store), after_post);
    put(&store, A, "z 3\n").unwrap();
    assert_eq!(text(&store), "# TYPE z untyped\nz{instance=\"\",job=\"a\"} 3\n");
    // What went is forgotten altogether: its type binds nobody.
    put(&store, B, "# TYPE y counter\ny 1\n").unwrap();
}

#[test]
fn empty_pushes_stamp() {
    let store = store(NO_LIMITS);
    push_at(&store, 5, Mode::Replace, A, "x 1\n").unwrap();
    push_at(&store, 6, Mode::Merge, A, "").unwrap();
    assert_eq!(store.groups().0[0].pushed, Some(at(6)));
    assert_eq!(store.groups().0[0].families.len(), 1);
    push_at(&store, 7, Mode::Replace, A, "").unwrap();
    assert_eq!(store.groups().0[0].pushed, Some(at(7)));
    assert_eq!(store.groups().0[0].families.len(), 0);
}

#[test]
fn delete_takes_exactly_one_group() {
    let store = store(NO_LIMITS);
    put(&store, A, "x 1\n").unwrap();
    put(&store, &[("job", "a"), ("instance", "i")], "x 1\n").unwrap();
    store.delete(&key(B));
    assert_eq!(store.groups().0.len(), 2);
    store.delete(&key(A));
    assert_eq!(store.groups().0.len(), 1);
    assert_eq!(store.groups().0[0].grouping, key(&[("job", "a"), ("instance", "i")]));
}

#[test]
fn a_rejected_push_changes_nothing_but_the_failure_time() {
    let store = store(NO_LIMITS);
    push_at(&store, 5, Mode::Replace, A, "x 1\n").unwrap();
    let before = text(&store);
    let error = push_at(&store, 6, Mode::Replace, A, "x 1 123\n").unwrap_err();
    let expected = "pushed metrics are invalid or inconsistent with existing metrics: pushed metrics must not have \
        timestamps";
    assert_eq!(error, expected);
    assert_eq!(text(&store), before);
    let (groups, _) = store.groups();
    assert_eq!((groups[0].pushed, groups[0].failed), (Some(at(5)), Some(at(6))));

    push_at(&store, 7, Mode::Replace, B, "x 1 123\n").unwrap_err();
    let (groups, _) = store.groups();
    assert_eq!((groups[1].pushed, groups[1].failed), (None, Some(at(7))));
    assert_eq!(
        render(&groups[1].stamps()),
        "# HELP push_time_seconds Last Unix time when changing this group in the Pushgateway succeeded.\n\
         # TYPE push_time_seconds gauge\npush_time_seconds{instance=\"\",job=\"b\"} 0\n\
         # HELP push_failure_time_seconds Last Unix time when changing this group in the Pushgateway failed.\n\
         # TYPE push_failure_time_seconds gauge\npush_failure_time_seconds{instance=\"\",job=\"b\"} 7\n"
    );
}

#[test]
fn one_name_keeps_one_type() {
    let store = store(NO_LIMITS);
    put(&store, A, "x 1\n").unwrap();
    let error = put(&store, B, "# TYPE x counter\nx 2\n").unwrap_err();
    let expected = "collected metric \"x\" { label:<name:\"instance\" value:\"\" > label:<name:\"job\" value:\"b\" > \
        counter:<value:2 > } is not a UNTYPED";
    assert!(error.ends_with(expected), "{error}");
    // Within its own group a push may change it.
    put(&store, A, "# TYPE x counter\nx 2\n").unwrap();
    put(&store, B, "# TYPE x counter\nx 2\n").unwrap();

    let error = put(&store, B, "pushgateway_build_info 1\n").unwrap_err();
    let expected =
        "gathered metric family pushgateway_build_info has type UNTYPED but should have GAUGE";
    assert!(error.ends_with(expected), "{error}");
    put(&store, B, "# TYPE pushgateway_build_info gauge\npushgateway_build_info 1\n").unwrap();
}

#[test]
fn no_series_twice() {
    let store = store(NO_LIMITS);
    let error = put(&store, A, "z{a=\"b\"} 3\nz{a=\"b\"} 3\n").unwrap_err();
    let expected = "collected metric \"z\" { label:<name:\"a\" value:\"b\" > label:<name:\"instance\" value:\"\" > \
        label:<name:\"job\" value:\"a\" > untyped:<value:3 > } was collected before with the same name and label values";
    assert!(error.ends_with(expected), "{error}");

    // The group's labels win, so what differed in the body may be the same in the end.
    put(&store, A, "z{job=\"1\"} 3\nz{job=\"2\"} 3\n").unwrap_err();

    put(&store, A, "z{l=\"v\"} 1\n").unwrap();
    put(&store, A, "z{l=\"v\"} 2\n").unwrap();
    let error = put(&store, &[("job", "a"), ("l", "v")], "z 1\n").unwrap_err();
    assert!(error.contains("was collected before"), "{error}");
}

#[test]
fn an_empty_instance_is_the_same_place_as_none() {
    let store = store(NO_LIMITS);
    push_at(&store, 1, Mode::Replace, A, "z 1\n").unwrap();
    let error = put(&store, &[("job", "a"), ("instance", "")], "y 1\n").unwrap_err();
    assert!(error.contains("collected metric \"push_time_seconds\""), "{error}");
    store.delete(&key(&[("job", "a"), ("instance", "")]));
    assert_eq!(store.groups().0.len(), 1);
    assert_eq!(store.groups().0[0].failed, None);
}

#[test]
fn names_of_sample_lines_are_taken() {
    let store = store(NO_LIMITS);
    put(&store, A, "# TYPE s summary\ns{quantile=\"0.5\"} 1\n").unwrap();
    let error = put(&store, B, "s_count 3\n").unwrap_err();
    let expected =
        "collected metric named \"s_count\" collides with previously collected summary named \"s\"";
    assert!(error.ends_with(expected), "{error}");
    put(&store, B, "s_bucket 3\n").unwrap();
    let error = put(&store, A, "# TYPE s histogram\ns_bucket{le=\"1\"} 1\n").unwrap_err();
    let expected = "collected histogram named \"s\" collides with previously collected metric named \"s_bucket\"";
    assert!(error.ends_with(expected), "{error}");
    // In the same push, and in what the push leaves standing.
    put(&store, A, "# TYPE q_sum gauge\nq_sum 1\n# TYPE q summary\nq{quantile=\"0.5\"} 1\n")
        .unwrap_err();
    post(&store, A, "s_sum 1\n").unwrap_err();
    put(&store, A, "s_sum 1\n").unwrap();
}

#[test]
fn labels_must_be_fit_for_prometheus() {
    let store = store(NO_LIMITS);
    let error = put(&store, A, "a{__x=\"1\"} 1\n").unwrap_err();
    assert!(error.ends_with("has a label with an invalid name: __x"), "{error}");
    let group = &[("job", "a"), ("quantile", "1")];
    let error = put(&store, group, "# TYPE s summary\ns{quantile=\"0.5\"} 1\n").unwrap_err();
    assert!(error.ends_with("must not have an explicit \"quantile\" label"), "{error}");
}

#[test]
fn pushed_stamps_are_ignored() {
    let store = store(NO_LIMITS);
    post(
        &store,
        A,
        "# TYPE push_time_seconds counter\npush_time_seconds 5\npush_failure_time_seconds 7\n",
    )
    .unwrap();
    assert_eq!(text(&store), "");
}

#[test]
fn limits_refuse_what_is_new_and_keep_what_is_there() {
    let store = store(Limits { groups: 1, series: 3 });
    put(&store, A, "x 1\ny 1\nz 1\n").unwrap();
    let error = put(&store, B, "x 1\n").unwrap_err();
    assert!(error.contains("holds 1 groups, as many as it may"), "{error}");
    assert_eq!(store.groups().0.len(), 1);
    let error = post(&store, A, "w 1\n").unwrap_err();
    assert!(error.contains("would hold 4 series, but it may hold 3"), "{error}");
    put(&store, A, "w 1\nv 1\n").unwrap();
    post(&store, A, "u 1\n").unwrap();
}

#[test]
fn many_violations_are_counted_and_some_are_named() {
    let store = store(NO_LIMITS);
    let body: String = (0..20).map(|n| format!("z{{a=\"{n}\"}} 1\nz{{a=\"{n}\"}} 1\n")).collect();
    let error = put(&store, A, &body).unwrap_err();
    assert!(error.contains("20 error(s) occurred:\n* collected metric"), "{error}");
    assert!(error.ends_with("\n* and 10 more"), "{error}");
}

#[test]
fn restored_groups_are_as_they_were() {
    let first = store(NO_LIMITS);
    push_at(&first, 3, Mode::Merge, A, "# HELP x Help.\nx{l=\"1\"} NaN\n").unwrap();
    push_at(&first, 4, Mode::Merge, B, "x 1 1\n").unwrap_err();
    let second = store(Limits { groups: 0, series: 0 });
    for group in first.groups().0 {
        second.restore(group).unwrap();
    }
    assert_eq!(text(&second), text(&first));
    let stamps = |store: &Store| {
        store.groups().0.iter().map(|group| (group.pushed, group.failed)).collect::<Vec<_>>()
    };
    assert_eq!(stamps(&second), stamps(&first));
}
