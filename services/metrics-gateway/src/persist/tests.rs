//! Every file here is a real one in a directory of its own.
use super::*;
use crate::{
    exposition::{parse::parse, render},
    groups::{Limits, Mode, Push},
};

fn store() -> Store {
    Store::new(Limits { groups: 10, series: 100 }, |_| None)
}

fn filled() -> Store {
    let store = store();
    let body = "# HELP a Hé\"lp\\nline.\na{x=\"q\\\"\\\\\\n\",instance=\"i\"} NaN\n# TYPE c counter\nc +Inf\n\
        # TYPE h histogram\nh_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum -Inf\nh_count 2\n\
        # TYPE s summary\ns{quantile=\"0.5\"} 0.30000000000000004\ns_sum 12\ns_count 3\n";
    for (job, body, fails) in [("one", body, false), ("two", "z 1 1\n", true), ("α/b", "", false)]
    {
        let parsed = parse(body.as_bytes()).unwrap();
        let push = Push {
            grouping: [("job", job)].into_iter().collect(),
            families: parsed.families,
            timestamps: parsed.timestamps,
            mode: Mode::Replace,
        };
        let now = DateTime::from_timestamp(1_700_000_000, 123_456_789).unwrap();
        assert_eq!(store.push(push, now).is_err(), fails);
    }
    store
}

fn text(store: &Store) -> String {
    let (groups, _) = store.groups();
    let families = groups.iter().flat_map(|group| {
        let stored = group.families.values().map(|stored| stored.family.clone());
        stored.chain(group.stamps())
    });
    render(&families.collect::<Vec<_>>())
}

#[test]
fn what_was_saved_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("groups");
    let saved = filled();
    save(&path, &saved.groups().0).unwrap();
    let loaded = store();
    load(&path, &loaded).unwrap();
    assert_eq!(text(&loaded), text(&saved));
    let times = |store: &Store| {
        let groups = store.groups().0;
        groups
            .iter()
            .flat_map(|group| group.families.values().map(|stored| stored.at))
            .collect::<Vec<_>>()
    };
    assert_eq!(times(&loaded), times(&saved));
    // Saved again over itself, it is the same file, and nothing lies about.
    let first = fs::read(&path).unwrap();
    save(&path, &loaded.groups().0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn no_file_is_an_empty_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = store();
    load(&directory.path().join("none"), &store).unwrap();
    assert!(store.groups().0.is_empty());
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("groups");
    save(&path, &filled().groups().0).unwrap();
    let whole = fs::read(&path).unwrap();
    // Without its last line feed the file still says all.
    for length in 0..whole.len() - 1 {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(load(&path, &store()).is_err(), "cut at {length} of {}", whole.len());
    }
}

#[test]
fn errors_name_the_file_and_the_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("groups");
    let shown = path.display();
    let refusal = |content: &str| {
        fs::write(&path, content).unwrap();
        load(&path, &store()).unwrap_err().to_string()
    };
    let text = refusal("{\"format\":\"coffer-metrics-gateway\",\"version\":2}\n");
    let start = format!("read groups from {shown}: it is not a file of this program");
    assert!(text.starts_with(&start) && text.ends_with("version 2"), "{text}");
    assert!(refusal("gob").starts_with(&start));
    let header = "{\"format\":\"coffer-metrics-gateway\",\"version\":1}\n";
    let text = refusal(&format!("{header}{{\"end\":{{\"groups\":1}}}}\n"));
    assert_eq!(
        text,
        format!("read groups from {shown}: the file ends early; move it away to start without it")
    );
    let text = refusal(&format!("{header}x\n"));
    assert!(
        text.starts_with(&format!("read groups from {shown}, line 2: the file is damaged")),
        "{text}"
    );
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("no/groups");
    let error = save(&path, &[]).unwrap_err();
    assert_eq!(error.to_string(), format!("save groups to {}", path.display()));
}
