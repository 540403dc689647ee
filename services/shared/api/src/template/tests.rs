//! Tables for every form, and what must hold for any text.

use super::*;
use proptest::prelude::*;

fn variables() -> Variables {
    [
        ("V", "value"),
        ("EMPTY", ""),
        ("PATH_", "/data/redis/dump.rdb"),
        ("NAME", "redis-backup-7.0.5"),
        ("MIXED", "aBc Def"),
        ("WIDE", "äöü"),
        ("QUOTED", "a \"b\" \\ c\nd ${V} $$"),
        ("N", "2"),
        ("_9", "digits"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn table(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        assert_eq!(expand(text, &variables()).as_deref(), Ok(*expected), "{text}");
    }
}

#[test]
fn values_and_defaults() {
    table(&[
        ("", ""),
        ("plain", "plain"),
        ("${V}", "value"),
        ("a${V}b${V}c", "avaluebvaluec"),
        ("${_9}", "digits"),
        ("${V:=d}", "value"),
        ("${V=d}", "value"),
        ("${V:-d}", "value"),
        ("${V:?d}", "value"),
        ("${NONE:=d}", "d"),
        ("${NONE=d}", "d"),
        ("${NONE:-d}", "d"),
        ("${NONE:=}", ""),
        ("${NONE:=a b:c=d-e/f}", "a b:c=d-e/f"),
        ("${NONE:=$X $(Y)}", "$X $(Y)"),
        // Known and empty wins over the default.
        ("[${EMPTY:=d}]", "[]"),
        ("[${EMPTY:-d}]", "[]"),
        // A value is data: it is neither escaped nor expanded again.
        ("${QUOTED}", "a \"b\" \\ c\nd ${V} $$"),
        ("C:\\dir\\/x", "C:\\dir\\/x"),
    ]);
}

#[test]
fn nested_defaults() {
    table(&[
        ("${NONE:=${V}}", "value"),
        ("${NONE:=${NADA:=${V}}}", "value"),
        ("${NONE:=${NADA:=d}}", "d"),
        ("${V:=${NONE}}", "value"),
        ("${NONE:-${V^^}}!", "VALUE!"),
        ("${V:${N}}", "lue"),
        ("${NAME%${NONE:=5}}", "redis-backup-7.0."),
    ]);
}

#[test]
fn dollars_that_are_none_of_ours() {
    table(&[
        ("$", "$"),
        ("$$", "$"),
        ("$$$", "$$"),
        ("$$$$", "$$"),
        ("$V $(V) $ {V}", "$V $(V) $ {V}"),
        ("$${V}", "${V}"),
        ("$$${V}", "$value"),
        ("$$(V)", "$(V)"),
        ("a$", "a$"),
        ("}{", "}{"),
    ]);
}

#[test]
fn cases_lengths_substrings() {
    table(&[
        ("${V^}", "Value"),
        ("${V^^}", "VALUE"),
        ("${MIXED,}", "aBc Def"),
        ("${MIXED,,}", "abc def"),
        ("${MIXED^}", "ABc Def"),
        ("${WIDE^}", "Äöü"),
        ("[${EMPTY^}${EMPTY,,}]", "[]"),
        ("${#V}", "5"),
        ("${#WIDE}", "3"),
        ("${#EMPTY}", "0"),
        ("${V:0}", "value"),
        ("${V:1}", "alue"),
        ("${V:5}", ""),
        ("${V:99}", ""),
        ("${V:1:3}", "alu"),
        ("${V:1:99}", "alue"),
        ("${V: -3}", "lue"),
        ("${V: -3:2}", "lu"),
        ("${V:1:-1}", "alu"),
        ("${WIDE:1:1}", "ö"),
    ]);
}

#[test]
fn trims() {
    table(&[
        ("${PATH_#*/}", "data/redis/dump.rdb"),
        ("${PATH_##*/}", "dump.rdb"),
        ("${PATH_%/*}", "/data/redis"),
        ("${PATH_%%/*}", ""),
        ("${NAME#redis-}", "backup-7.0.5"),
        ("${NAME#x}", "redis-backup-7.0.5"),
        ("${NAME%.?}", "redis-backup-7.0"),
        ("${NAME%%[0-9]*}", "redis-backup-"),
        ("${NAME##[!0-9]*-}", "7.0.5"),
        ("${NAME%\\.5}", "redis-backup-7.0"),
        ("${WIDE#?}", "öü"),
        ("${WIDE%?}", "äö"),
        ("${V#}", "value"),
        ("${EMPTY##*}", ""),
    ]);
}

#[test]
fn replacements() {
    table(&[
        ("${NAME/-/_}", "redis_backup-7.0.5"),
        ("${NAME//-/_}", "redis_backup_7.0.5"),
        ("${NAME//-/}", "redisbackup7.0.5"),
        ("${NAME//-}", "redisbackup7.0.5"),
        ("${NAME/#redis/valkey}", "valkey-backup-7.0.5"),
        ("${NAME/#backup/x}", "redis-backup-7.0.5"),
        ("${NAME/%5/6}", "redis-backup-7.0.6"),
        ("${NAME/%7/6}", "redis-backup-7.0.5"),
        ("${V/*/x}", "value"),
        ("${NAME/redis/${V}}", "value-backup-7.0.5"),
    ]);
}

#[test]
fn an_unknown_variable_is_named_with_its_place() {
    for text in ["${NONE}", "${#NONE}", "${NONE^}", "${NONE:1}", "${NONE#x}", "${NONE/a/b}"] {
        let error = expand(&format!("ä--{text}"), &variables()).unwrap_err();
        let Error::Unknown { variable, expression, column } = &error else { panic!("{error}") };
        assert_eq!((variable.as_str(), expression.as_str(), *column), ("NONE", text, 4));
    }
    let error = expand("${A:=${B}}", &variables()).unwrap_err().to_string();
    assert!(
        error.contains("variable B has no value") && error.contains("${B:=default}"),
        "{error}"
    );
    let error = expand("${A:?set it to the zone}", &variables()).unwrap_err().to_string();
    assert_eq!(error, "variable A is required at column 1: set it to the zone");
}

#[test]
fn what_is_no_form_is_refused() {
    for text in [
        "${",
        "${}",
        "${V",
        "${V:=d",
        "${ V}",
        "${V }",
        "${V-d}",
        "${V+d}",
        "${V:+d}",
        "${V?d}",
        "${é}",
        "${V:=a${V}}",
        "${V:=${V}a}",
        "${V:x}",
        "${V:}",
        "${V:1:x}",
        "${V:4:-3}",
        "${V^^^}",
        "${#V:1}",
        "${V//}",
        "${V/#/x}",
        "${V#[a}",
        "${V!}",
    ] {
        let error = expand(text, &variables()).unwrap_err();
        assert!(matches!(error, Error::Bad { column: 1, .. }), "{text}: {error}");
    }
    let deep = format!("{}{}", "${A:=".repeat(10_000), "}".repeat(10_000));
    let error = expand(&deep, &variables()).unwrap_err().to_string();
    assert!(error.contains("too deeply nested") && error.len() < 300, "{error}");
}

#[test]
fn every_variable_that_is_referred_to_is_named() {
    let names = |text| {
        let mut names = BTreeSet::new();
        add_names(text, &mut names).map(|()| names.into_iter().collect::<Vec<_>>().join(" "))
    };
    for (text, want) in [
        ("plain $X $(X) $${X}", ""),
        ("${A} ${B:=b} ${A}", "A B"),
        ("${A:=${B:-${C}}}", "A B C"),
        ("${A^^} ${#B} ${C:?${D}}", "A B C D"),
        ("${A:${B}:${C}} ${D##${E}} ${F/${G}/${H}}", "A B C D E F G H"),
    ] {
        assert_eq!(names(text).as_deref(), Ok(want), "{text}");
    }
    assert!(names("${A").is_err());
}

#[test]
fn growth_is_bounded() {
    let mut variables = variables();
    variables.insert("BIG".into(), "a".repeat(600 * 1024));
    let error = expand("${BIG}${BIG}", &variables).unwrap_err();
    assert!(matches!(error, Error::TooLong { column: 7, .. }), "{error}");
    let error = expand("${BIG//a/${BIG}}", &variables).unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }), "{error}");
    assert!(expand("${BIG##*}", &variables).is_err());
}

proptest! {
    #[test]
    fn text_without_a_dollar_is_unchanged(text in "[^$]*") {
        prop_assert_eq!(expand(&text, &variables()), Ok(text));
    }

    #[test]
    fn no_text_panics(text in r"([$]\{|[$]|[{}V#%/:=^,?*\[\]\\ 0-9-]|\PC){0,40}") {
        let _ = expand(&text, &variables());
    }

    #[test]
    fn any_value_arrives_as_it_is(value in any::<String>(), before in "[^$]*", after in "[^$]*") {
        let variables = Variables::from([("X".to_owned(), value.clone())]);
        let expanded = expand(&format!("{before}${{X:=d}}{after}"), &variables);
        prop_assert_eq!(expanded, Ok(format!("{before}{value}{after}")));
    }

    #[test]
    fn a_doubled_dollar_is_one(text in any::<String>()) {
        let doubled = text.replace('$', "$$");
        prop_assert_eq!(expand(&doubled, &variables()), Ok(text));
    }

    #[test]
    fn a_trim_leaves_an_end(value in "[ab/.]{0,12}", pattern in r"[ab/.*?\[\]]{0,6}") {
        let variables = Variables::from([("X".to_owned(), value.clone())]);
        for operator in ["#", "##"] {
            if let Ok(rest) = expand(&format!("${{X{operator}{pattern}}}"), &variables) {
                prop_assert!(value.ends_with(&rest));
            }
        }
        for operator in ["%", "%%"] {
            if let Ok(rest) = expand(&format!("${{X{operator}{pattern}}}"), &variables) {
                prop_assert!(value.starts_with(&rest));
            }
        }
    }
}
