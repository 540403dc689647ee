//! The body of a POST: form fields, or a template in Go's language with the session's summary as its data. Of sprig's
//! functions those are known that make text out of text; one that is not, and a field that there is not, are errors, since
//! a message that says `<no value>` is worth nothing. Pure.

use std::collections::HashMap;

use coffer_api::{hook::FormEntry, target::TargetRef};
use gtmpl::{Func, FuncError, Template, Value};

/// Largest body, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// A body cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no template.
    #[error("read the template: {0}")]
    Parse(String),
    /// It asks for what there is not.
    #[error("fill the template in: {0}")]
    Render(String),
    /// It is too large.
    #[error("it has {0} bytes: at most {MAX_BYTES} are sent")]
    Large(usize),
}

/// What a template may tell of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// `.Name` of the session.
    pub name: String,
    /// `.Namespace`.
    pub namespace: String,
    /// `.Invoker.Kind`.
    pub invoker_kind: String,
    /// `.Invoker.Name`.
    pub invoker_name: String,
    /// `.Target`.
    pub target: TargetRef,
    /// `.Status.Phase`: `Succeeded` or `Failed`.
    pub succeeded: bool,
    /// `.Status.Duration`.
    pub duration: String,
    /// `.Status.Error`; empty after a success.
    pub error: String,
    /// `.RetryLeft`.
    pub retry_left: i32,
}

impl Summary {
    /// To try a template on before it is needed.
    #[must_use]
    pub fn example() -> Self {
        Self { name: "example-1".to_owned(), error: "an example".to_owned(), ..Self::default() }
    }

    fn value(&self) -> Value {
        let Self {
            name,
            namespace,
            invoker_kind,
            invoker_name,
            target,
            succeeded,
            duration,
            error,
            retry_left,
        } = self;
        let object = |fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(name, text)| ((*name).to_owned(), Value::from(*text)));
            Value::Object(fields.collect())
        };
        let phase = if *succeeded { "Succeeded" } else { "Failed" };
        let fields: HashMap<String, Value> = [
            ("Name", Value::from(name)),
            ("Namespace", Value::from(namespace)),
            (
                "Invoker",
                object(&[
                    ("APIGroup", "stash.appscode.com"),
                    ("Kind", invoker_kind),
                    ("Name", invoker_name),
                ]),
            ),
            (
                "Target",
                object(&[
                    ("APIVersion", &target.api_version),
                    ("Kind", &target.kind),
                    ("Name", &target.name),
                    ("Namespace", &target.namespace),
                ]),
            ),
            ("Status", object(&[("Phase", phase), ("Duration", duration), ("Error", error)])),
            ("RetryLeft", Value::from(*retry_left)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        Value::Object(fields)
    }
}

/// A body and its type, unless the user's headers name another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Its `Content-Type`.
    pub kind: &'static str,
}

/// The body of a POST; none when neither form nor template is given. A form wins.
///
/// # Errors
/// When the template is none, asks for what there is not, or gives too much.
pub fn of_post(
    form: &[FormEntry],
    template: Option<&str>,
    summary: &Summary,
) -> Result<Option<Body>, Error> {
    let body = if !form.is_empty() {
        let mut encoded = url::form_urlencoded::Serializer::new(String::new());
        for FormEntry { key, values } in form {
            encoded.extend_pairs(values.iter().map(|value| (key, value)));
        }
        let bytes = encoded.finish().into_bytes();
        Body { bytes, kind: "application/x-www-form-urlencoded" }
    } else if let Some(template) = template.filter(|text| !text.is_empty()) {
        let text = render(template, summary)?;
        let json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
        Body { bytes: text.into_bytes(), kind }
    } else {
        return Ok(None);
    };
    if body.bytes.len() > MAX_BYTES {
        return Err(Error::Large(body.bytes.len()));
    }
    Ok(Some(body))
}

/// Fills a template in.
///
/// # Errors
/// When it is none, or asks for what there is not.
pub fn render(template: &str, summary: &Summary) -> Result<String, Error> {
    let mut parsed = Template::default();
    for (name, function) in FUNCTIONS {
        parsed.add_func(name, function);
    }
    parsed.parse(template).map_err(|error| Error::Parse(error.to_string()))?;
    let context = gtmpl::Context::from(summary.value());
    parsed.render(&context).map_err(|error| Error::Render(without_data(&error.to_string())))
}

/// The library shows all of the data that a field was looked for in, as its own code writes it down.
fn without_data(error: &str) -> String {
    match error.split_once(" for {") {
        Some((missing, _)) => format!("{missing}; there are {FIELDS}"),
        None => error.to_owned(),
    }
}

const FIELDS: &str = ".Name .Namespace .RetryLeft, .Invoker with .APIGroup .Kind .Name, .Target with .APIVersion .Kind .Name \
    .Namespace, and .Status with .Phase .Duration .Error";

const FUNCTIONS: [(&str, Func); 13] = [
    ("upper", |args| text(args, "upper", |[text]| text.to_uppercase())),
    ("lower", |args| text(args, "lower", |[text]| text.to_lowercase())),
    ("trim", |args| text(args, "trim", |[text]| text.trim().to_owned())),
    ("quote", |args| text(args, "quote", |[text]| json(&text))),
    ("toJson", |args| text(args, "toJson", |[text]| json(&text))),
    ("squote", |args| text(args, "squote", |[text]| format!("'{text}'"))),
    ("default", |args| {
        text(args, "default", |[other, text]| if text.is_empty() { other } else { text })
    }),
    ("trunc", |args| {
        let [count, text] = texts(args, "trunc")?;
        let count = count.parse().map_err(|_| FuncError::Generic("trunc wants a number".into()))?;
        Ok(Value::from(text.chars().take(count).collect::<String>()))
    }),
    ("replace", |args| text(args, "replace", |[old, new, text]| text.replace(&old, &new))),
    ("contains", |args| ask(args, "contains", |part, text| text.contains(part))),
    ("hasPrefix", |args| ask(args, "hasPrefix", |part, text| text.starts_with(part))),
    ("hasSuffix", |args| ask(args, "hasSuffix", |part, text| text.ends_with(part))),
    ("empty", |args| Ok(Value::from(texts::<1>(args, "empty")?[0].is_empty()))),
];

fn texts<const N: usize>(args: &[Value], name: &str) -> Result<[String; N], FuncError> {
    let texts: Vec<String> = args.iter().map(ToString::to_string).collect();
    texts.try_into().map_err(|_| FuncError::ExactlyXArgs(name.to_owned(), N))
}

fn text<const N: usize>(
    args: &[Value],
    name: &str,
    make: impl FnOnce([String; N]) -> String,
) -> Result<Value, FuncError> {
    Ok(Value::from(make(texts(args, name)?)))
}

fn ask(
    args: &[Value],
    name: &str,
    holds: impl FnOnce(&str, &str) -> bool,
) -> Result<Value, FuncError> {
    let [part, text] = texts(args, name)?;
    Ok(Value::from(holds(&part, &text)))
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            name: "orders-1".into(),
            namespace: "demo".into(),
            invoker_kind: "BackupConfiguration".into(),
            invoker_name: "orders".into(),
            error: "connect: \"refused\"".into(),
            duration: "1m3s".into(),
            retry_left: 2,
            ..Summary::default()
        }
    }

    #[test]
    fn a_template_tells_of_the_session() {
        for (template, text) in [
            ("plain", "plain"),
            ("{{ .Namespace }}/{{.Name}}", "demo/orders-1"),
            (
                "{{ .Invoker.Kind | lower }} {{ .Invoker.APIGroup }}",
                "backupconfiguration stash.appscode.com",
            ),
            (r#"{{ if eq .Status.Phase "Succeeded" }}good{{ else }}bad{{ end }}"#, "bad"),
            (r#"{"text": {{ .Status.Error | quote }}}"#, r#"{"text": "connect: \"refused\""}"#),
            ("{{ if gt .RetryLeft 1 }}again{{ end }}", "again"),
            (r#"{{ .Target.Namespace | default "none" }}"#, "none"),
            (r#"{{ .Name | trunc 3 }}{{ .Name | replace "orders" "x" }}"#, "ordx-1"),
            (r#"{{ if contains "refused" .Status.Error }}{{ .Status.Duration }}{{ end }}"#, "1m3s"),
        ] {
            assert_eq!(render(template, &summary()).unwrap(), text, "{template}");
        }
    }

    #[test]
    fn a_field_that_there_is_not_is_named_beside_those_that_are() {
        let error = render("{{ .Nope }}", &summary()).unwrap_err().to_string();
        assert!(error.contains("Nope; there are .Name"), "{error}");
        assert!(!error.contains("orders-1"), "{error}");
    }

    #[test]
    fn a_body_knows_its_type() {
        let of = |form: &[FormEntry], template: &str| {
            of_post(form, Some(template), &summary())
                .unwrap()
                .map(|b| (String::from_utf8(b.bytes).unwrap(), b.kind))
        };
        assert_eq!(of(&[], ""), None);
        assert_eq!(of(&[], "a {{ .Name }}").unwrap().1, "text/plain; charset=utf-8");
        assert_eq!(of(&[], r#"{"a": "{{ .Name }}"}"#).unwrap().1, "application/json");
        let form = [FormEntry { key: "a b".into(), values: vec!["1&".into(), "2".into()] }];
        assert_eq!(
            of(&form, "ignored").unwrap(),
            ("a+b=1%26&a+b=2".into(), "application/x-www-form-urlencoded")
        );
    }
}
