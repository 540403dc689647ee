//! The text format, version 0.0.4: how metrics come in (`parse`) and go out (`render`).
//!
//! Numbers are written as the Go clients write them (`1.5e+06`), since people diff scrapes. The protobuf format is not
//! here yet: a body of any content type is read as text, as the original does with all that is not protobuf.
pub mod parse;
pub mod quote;

use std::fmt::Write;

use crate::family::{Family, Labels, Value};

/// The content type of what [`render`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes families in the order given, series in scrape order.
pub fn render<'a>(families: impl IntoIterator<Item = &'a Family>) -> String {
    let mut out = String::new();
    for family in families {
        render_family(&mut out, family);
    }
    out
}

fn render_family(out: &mut String, family: &Family) {
    let name = family.name.as_str();
    if let Some(help) = &family.help {
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escape(out, help, false);
        out.push('\n');
    }
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# TYPE {name} {}", family.kind.name());
    let mut series: Vec<_> = family.series.iter().collect();
    series.sort_by(|a, b| a.labels.scrape_order(&b.labels));
    for one in series {
        let labels = &one.labels;
        match &one.value {
            Value::Number(value) => line(out, name, "", labels, None, &go_float(*value)),
            Value::Summary { count, sum, quantiles } => {
                for (quantile, value) in quantiles {
                    let extra = Some(("quantile", *quantile));
                    line(out, name, "", labels, extra, &go_float(*value));
                }
                line(out, name, "_sum", labels, None, &go_float(*sum));
                line(out, name, "_count", labels, None, &count.to_string());
            }
            Value::Histogram { count, sum, buckets } => {
                for (bound, below) in buckets {
                    line(out, name, "_bucket", labels, Some(("le", *bound)), &below.to_string());
                }
                // Every histogram has a bucket without a bound, whether it was pushed or not.
                if !buckets.iter().any(|(bound, _)| *bound == f64::INFINITY) {
                    let extra = Some(("le", f64::INFINITY));
                    line(out, name, "_bucket", labels, extra, &count.to_string());
                }
                line(out, name, "_sum", labels, None, &go_float(*sum));
                line(out, name, "_count", labels, None, &count.to_string());
            }
        }
    }
}

fn line(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &Labels,
    extra: Option<(&str, f64)>,
    value: &str,
) {
    out.push_str(name);
    out.push_str(suffix);
    let mut separator = '{';
    for (label, value) in labels.iter() {
        out.push(separator);
        out.push_str(label);
        out.push_str("=\"");
        escape(out, value, true);
        out.push('"');
        separator = ',';
    }
    if let Some((label, bound)) = extra {
        let _ = write!(out, "{separator}{label}=\"{}\"", go_float(bound));
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    out.push(' ');
    out.push_str(value);
    out.push('\n');
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            char => out.push(char),
        }
    }
}

/// A number in Go's shortest form: plain from 0.0001 up to 999999, with an exponent of at least two digits outside.
pub fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_as_go_writes_them() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (583_608.0, "583608"),
            (1_000_000.0, "1e+06"),
            (1_446_066.0, "1.446066e+06"),
            (1.795_422_968_391_280_7e9, "1.7954229683912807e+09"),
            (0.0001, "0.0001"),
            (0.000_031_887, "3.1887e-05"),
            (1.844_674_407_370_955_2e19, "1.8446744073709552e+19"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (value, text) in cases {
            assert_eq!(go_float(value), text);
        }
    }

    #[test]
    fn what_is_rendered_parses_to_the_same() {
        let text = concat!(
            "# HELP a back\\\\slash\\nline\n# TYPE a untyped\na{b=\"q\\\"\\\\\\n\"} 1\n",
            "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\n",
            "# TYPE s summary\ns{quantile=\"0.5\"} 1e+06\ns_sum 12\ns_count 3\n",
        );
        let parsed = parse::parse(text.as_bytes()).unwrap();
        assert_eq!(render(&parsed.families), text);
    }
}
