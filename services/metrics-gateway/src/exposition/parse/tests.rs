//! Every text here was sent to Pushgateway 1.5.1; the errors are its words.
use super::*;

fn problem(body: &[u8]) -> String {
    parse(body).unwrap_err().to_string()
}

#[test]
fn errors_are_the_originals() {
    let line_1: &[(&[u8], &str)] = &[
        (b"foo 1", "unexpected end of input stream"),
        (b"foo{a=\"b\"", "unexpected end of input stream"),
        (b"# HELP foo", "unexpected end of input stream"),
        (b"a{b=\"c\" 1\n", "unexpected end of label value \"c\""),
        (b"a{b=c} 1\n", "expected '\"' at start of label value, found 'c'"),
        (b"a{b=\"c\"d=\"e\"} 1\n", "unexpected end of label value \"c\""),
        (b"a{b=\"c\\x\"} 1\n", "invalid escape sequence '\\x'"),
        (b"a{b=\"c\nd\"} 1\n", "label value \"c\" contains unescaped new-line"),
        (b"a{b} 1\n", "expected '=' after label name, found '}'"),
        (b"a{=} 1\n", "invalid label name for metric \"a\""),
        (b"k{a=\"b\",\xc3\xa9=\"1\"} 1\n", "invalid label name for metric \"k\""),
        (b"a{__name__=\"x\"} 1\n", "label name \"__name__\" is reserved"),
        (b"a{b=\"1\",b=\"2\"} 1\n", "duplicate label names for metric \"a\""),
        (b"a one\n", "expected float as value, got \"one\""),
        (b"a 1 one\n", "expected integer as timestamp, got \"one\""),
        (b"a 1 \n", "expected integer as timestamp, got \"\""),
        (b"a 1 1 x\n", "spurious string after timestamp: \" x\""),
        (b"1a 1\n", "invalid metric name"),
        (b"a 1\r\n", "expected float as value, got \"1\\r\""),
        (b"a\n", "expected float as value, got \"\""),
        (b"# TYPE a foo\n", "unknown metric type \"foo\""),
        (b"# TYPE a-b gauge\n", "invalid metric name in comment"),
        (b"# HELP a x\\z\na 1\n", "invalid escape sequence '\\z'"),
        (b"a{b=\"\xff\"} 1\n", "invalid label value \"\\xff\""),
        (b"a 1e400\n", "expected float as value, got \"1e400\""),
        (b"a 0x1p3\n", "expected float as value, got \"0x1p3\""),
        (b"a 1_0\n", "expected float as value, got \"1_0\""),
        (b"a +nan\n", "expected float as value, got \"+nan\""),
    ];
    for (body, text) in line_1 {
        let expected = format!("text format parsing error in line 1: {text}");
        assert_eq!(problem(body), expected, "{}", String::from_utf8_lossy(body));
    }
    let line_2: &[(&[u8], &str)] = &[
        (b"# HELP a x\n# HELP a y\na 1\n", "second HELP line for metric name \"a\""),
        (
            b"foo 1\n# TYPE foo counter\n",
            "second TYPE line for metric name \"foo\", or TYPE reported after samples",
        ),
        (
            b"# TYPE s summary\ns{quantile=\"x\"} 1\n",
            "expected float as value for 'quantile' label, got \"x\"",
        ),
    ];
    for (body, text) in line_2 {
        assert_eq!(problem(body), format!("text format parsing error in line 2: {text}"));
    }
}

#[test]
fn help_that_is_not_utf8_is_refused() {
    assert!(
        problem(b"# HELP aa \xff\naa 1\n")
            .ends_with("help text of metric name \"aa\" is not UTF-8")
    );
}

#[test]
fn blanks_comments_and_empty_lines_do_not_matter() {
    let parsed = parse(b"   \n\n#\n# x\n# TYPE a\n\t y\t{ a = \"1\" , } 2\nz{} .5\n").unwrap();
    let names: Vec<_> = parsed.families.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(names, ["y", "z"]);
    assert_eq!(parsed.families[0].series[0].labels.get("a"), Some("1"));
    assert_eq!(parsed.families[1].series[0].value, Value::Number(0.5));
    assert!(!parsed.timestamps);
}

#[test]
fn timestamps_are_noticed() {
    assert!(parse(b"a 1 123\n").unwrap().timestamps);
}

#[test]
fn lines_of_a_histogram_make_one_series_per_label_set() {
    let body = b"# TYPE h histogram\nh_bucket{x=\"1\",le=\"1\"} 1\nh_bucket{x=\"2\",le=\"1\"} 5\n\
        h_sum{x=\"1\"} 3\nh_count{x=\"1\"} 2\nh_bucket{x=\"1\",le=\"+Inf\"} 2\n";
    let families = parse(body).unwrap().families;
    assert_eq!(families.len(), 1);
    assert_eq!(families[0].series.len(), 2);
    let buckets = vec![(1.0, 1), (f64::INFINITY, 2)];
    assert_eq!(families[0].series[0].value, Value::Histogram { count: 2, sum: 3.0, buckets });
}

#[test]
fn sum_without_a_type_is_a_family_of_its_own() {
    let families = parse(b"s_sum 1\ns_count 2\n").unwrap().families;
    assert_eq!(families.len(), 2);
    assert!(families.iter().all(|family| family.kind == Kind::Untyped));
}

proptest::proptest! {
    #[test]
    fn never_panics(body: Vec<u8>) {
        let _ = parse(&body);
    }

    #[test]
    fn never_panics_on_what_looks_right(body in "[#a{}=\",\\\\ 1\n]{0,40}|# TYPE a (summary|histogram)\n[a_sumcount{}quantile=\",01 \n]{0,60}") {
        let _ = parse(body.as_bytes());
    }
}
