//! Whether an object is what its schema says, fault by fault.

use serde_json::{Map, Number, Value};

use super::{
    FieldError,
    compile::join,
    format,
    node::{Bound, ListKind, Structural, Type},
};

impl Structural {
    /// Checks the object, and what changed if it was another one before; the answer is empty when it is valid.
    pub fn validate(&self, old: Option<&Value>, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.check(object, old, "", &mut errors);
        errors
    }

    fn check(&self, value: &Value, old: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
        if value.is_null() && self.nullable {
            return;
        }
        if let Some(wanted) = self.mismatch(value) {
            errors.push(FieldError::wrong_type(path, type_name(value), wanted));
            return;
        }
        if let Some(allowed) = &self.rules.enumeration
            && !allowed.contains(value)
        {
            errors.push(FieldError::unsupported(path, value, allowed));
        }
        match value {
            Value::String(text) => self.check_text(value, text, path, errors),
            Value::Number(number) => self.check_number(value, number, path, errors),
            Value::Array(list) => self.check_list(value, list, path, errors),
            Value::Object(map) => self.check_map(value, map, old, path, errors),
            Value::Null | Value::Bool(_) => {}
        }
        self.check_combinations(value, path, errors);
        errors.extend(self.rules.cel.iter().filter_map(|rule| rule.check(value, old, path)));
    }

    /// The wanted type, when the value has another.
    fn mismatch(&self, value: &Value) -> Option<&'static str> {
        let (fits, wanted) = match self.kind {
            Type::Any => (true, ""),
            Type::Object => (value.is_object(), "object"),
            Type::Array => (value.is_array(), "array"),
            Type::String => (value.is_string(), "string"),
            Type::Boolean => (value.is_boolean(), "boolean"),
            Type::Number => (value.is_number(), "number"),
            Type::Integer => (is_integer(value), "integer"),
            Type::IntOrString => (is_integer(value) || value.is_string(), "integer,string"),
            Type::Quantity => (value.is_number() || value.is_string(), "string"),
        };
        (!fits).then_some(wanted)
    }

    fn check_text(&self, value: &Value, text: &str, path: &str, errors: &mut Vec<FieldError>) {
        let rules = &self.rules;
        let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        if let Some(most) = rules.length.1.filter(|most| length > *most) {
            errors.push(FieldError::too_long(path, most));
        }
        if let Some(least) = rules.length.0.filter(|least| length < *least) {
            let detail = format!("{path} in body should be at least {least} chars long");
            errors.push(FieldError::invalid(path, value, detail));
        }
        if let Some(pattern) = rules.pattern.as_ref().filter(|p| !p.is_match(text)) {
            let detail = format!("{path} in body should match '{pattern}'");
            errors.push(FieldError::invalid(path, value, detail));
        }
        if let Some(name) = rules.format.as_ref().filter(|name| !format::text(name, text)) {
            let detail = format!("{path} in body must be of type {name}: {value}");
            errors.push(FieldError::invalid(path, value, detail));
        }
    }

    fn check_number(
        &self,
        value: &Value,
        number: &Number,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        let rules = &self.rules;
        let mut fault = |detail: String| {
            errors.push(FieldError::invalid(path, value, format!("{path} in body {detail}")));
        };
        if let Some(Bound { limit, exclusive }) = &rules.minimum
            && (less(number, limit) || (*exclusive && equal(number, limit)))
        {
            let or = if *exclusive { "" } else { "or equal to " };
            fault(format!("should be greater than {or}{limit}"));
        }
        if let Some(Bound { limit, exclusive }) = &rules.maximum
            && (less(limit, number) || (*exclusive && equal(number, limit)))
        {
            let or = if *exclusive { "" } else { "or equal to " };
            fault(format!("should be less than {or}{limit}"));
        }
        if let (Some(factor), Some(n)) = (rules.multiple_of, number.as_f64())
            && (n / factor).fract() != 0.0
        {
            fault(format!("should be a multiple of {factor}"));
        }
        if let Some(name) = rules.format.as_ref().filter(|name| !format::number(name, number)) {
            fault(format!("must be of type {name}: \"{number}\""));
        }
    }

    fn check_list(&self, value: &Value, list: &[Value], path: &str, errors: &mut Vec<FieldError>) {
        let rules = &self.rules;
        let length = u64::try_from(list.len()).unwrap_or(u64::MAX);
        if let Some(most) = rules.items.1.filter(|most| length > *most) {
            errors.push(FieldError::too_many(path, list.len(), most));
        }
        if let Some(least) = rules.items.0.filter(|least| length < *least) {
            let detail = format!("{path} in body should have at least {least} items");
            errors.push(FieldError::invalid(path, value, detail));
        }
        if rules.unique_items && list.iter().enumerate().any(|(i, v)| list[..i].contains(v)) {
            let detail = format!("{path} in body shouldn't contain duplicates");
            errors.push(FieldError::invalid(path, value, detail));
        }
        if let Some(items) = &self.items {
            for (index, item) in list.iter().enumerate() {
                items.check(item, None, &format!("{path}[{index}]"), errors);
            }
        }
        let identities: Vec<Value> = match &self.list {
            ListKind::Atomic => Vec::new(),
            ListKind::Set => list.to_vec(),
            ListKind::Map(keys) => list.iter().map(|item| self.identity(item, keys)).collect(),
        };
        for (index, identity) in identities.iter().enumerate() {
            if identities[..index].contains(identity) {
                errors.push(FieldError::duplicate(format!("{path}[{index}]"), identity));
            }
        }
    }

    /// The key fields of a list entry, missing ones as their defaults.
    fn identity(&self, item: &Value, keys: &[String]) -> Value {
        let mut identity = Map::new();
        for key in keys {
            let default = self.item().and_then(|i| i.member(key)).and_then(|k| k.default.as_ref());
            if let Some(value) = item.get(key).or(default) {
                identity.insert(key.clone(), value.clone());
            }
        }
        Value::Object(identity)
    }

    fn check_map(
        &self,
        value: &Value,
        map: &Map<String, Value>,
        old: Option<&Value>,
        path: &str,
        errors: &mut Vec<FieldError>,
    ) {
        let rules = &self.rules;
        for name in &rules.required {
            if !map.contains_key(name) {
                errors.push(FieldError::required(join(path, name)));
            }
        }
        let length = u64::try_from(map.len()).unwrap_or(u64::MAX);
        if let Some(most) = rules.properties.1.filter(|most| length > *most) {
            errors.push(FieldError::too_many(path, map.len(), most));
        }
        if let Some(least) = rules.properties.0.filter(|least| length < *least) {
            let detail = format!("{path} in body should have at least {least} properties");
            errors.push(FieldError::invalid(path, value, detail));
        }
        for (name, member) in map {
            if let Some(schema) = self.member(name) {
                let old = old.and_then(|old| old.get(name));
                schema.check(member, old, &join(path, name), errors);
            }
        }
    }

    fn check_combinations(&self, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
        let rules = &self.rules;
        let attempt = |branch: &Self| {
            let mut found = Vec::new();
            branch.check(value, None, path, &mut found);
            found
        };
        if !rules.all_of.is_empty() {
            let found: Vec<FieldError> = rules.all_of.iter().flat_map(attempt).collect();
            if !found.is_empty() {
                errors.push(FieldError::combination(path, "must validate all the schemas (allOf)"));
                errors.extend(found);
            }
        }
        if !rules.any_of.is_empty() {
            let found: Vec<Vec<FieldError>> = rules.any_of.iter().map(attempt).collect();
            if found.iter().all(|errors| !errors.is_empty()) {
                let rule = "must validate at least one schema (anyOf)";
                errors.push(FieldError::combination(path, rule));
                errors.extend(closest(found));
            }
        }
        if !rules.one_of.is_empty() {
            let found: Vec<Vec<FieldError>> = rules.one_of.iter().map(attempt).collect();
            let valid = found.iter().filter(|errors| errors.is_empty()).count();
            if valid == 0 {
                let rule = "must validate one and only one schema (oneOf). Found none valid";
                errors.push(FieldError::combination(path, rule));
                errors.extend(closest(found));
            } else if valid > 1 {
                let rule = format!(
                    "must validate one and only one schema (oneOf). Found {valid} valid alternatives"
                );
                errors.push(FieldError::combination(path, &rule));
            }
        }
        if let Some(not) = &rules.not
            && attempt(not).is_empty()
        {
            errors.push(FieldError::combination(path, "must not validate the schema (not)"));
        }
    }
}

/// The branch with the fewest faults: most likely the one that was meant.
fn closest(branches: Vec<Vec<FieldError>>) -> Vec<FieldError> {
    branches.into_iter().min_by_key(Vec::len).unwrap_or_default()
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `1.0` counts, as it does for the API server.
fn is_integer(value: &Value) -> bool {
    match value {
        Value::Number(n) => {
            n.is_i64() || n.is_u64() || n.as_f64().is_some_and(|f| f.fract() == 0.0)
        }
        _ => false,
    }
}

fn less(a: &Number, b: &Number) -> bool {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a < b,
        _ => a.as_f64() < b.as_f64(),
    }
}

fn equal(a: &Number, b: &Number) -> bool {
    !less(a, b) && !less(b, a)
}
