//! Which snapshot a restore takes. Pure.
//!
//! As the documentation has it: a rule that names the host wins, else the rule without hosts, else there must be no rules
//! at all, which means the latest snapshot. A target without an alias is `host-0`, the host its own backups have; without
//! an alias and a source host any host's latest snapshot is taken. Rules that name other hosts only are refused: the
//! original would quietly take the latest snapshot.

use coffer_api::{names, session::Restore, target::Rule};

/// What the rules choose for a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// `SOURCE_HOSTNAME`.
    pub source_host: String,
    /// `RESTORE_SNAPSHOTS`, as written.
    pub snapshots: Vec<String>,
    /// `RESTORE_PATHS`, as written.
    pub paths: Vec<String>,
    /// `INCLUDE_PATTERNS`, as written.
    pub include: Vec<String>,
    /// `EXCLUDE_PATTERNS`, as written.
    pub exclude: Vec<String>,
}

impl Choice {
    /// What the worker restores.
    #[must_use]
    pub fn restore(&self) -> Restore {
        let snapshot = self.snapshots.first().filter(|id| !id.is_empty());
        Restore {
            snapshot: snapshot.map_or("latest", String::as_str).to_owned(),
            source_host: self.source_host.clone(),
        }
    }
}

/// Chooses for a target with this alias, possibly empty.
///
/// # Errors
/// Says which rule is wrong, or that none applies.
pub fn choose(rules: &[Rule], alias: &str) -> Result<Choice, String> {
    check(rules)?;
    let host = if alias.is_empty() { names::DEFAULT_HOST } else { alias };
    let named = rules.iter().find(|rule| rule.target_hosts.iter().any(|name| name == host));
    let rule = named.or_else(|| rules.iter().rfind(|rule| rule.target_hosts.is_empty()));
    match rule {
        Some(rule) => Ok(Choice {
            source_host: if rule.source_host.is_empty() { alias } else { &rule.source_host }
                .to_owned(),
            snapshots: rule.snapshots.clone(),
            paths: rule.paths.clone(),
            include: rule.include.clone(),
            exclude: rule.exclude.clone(),
        }),
        None if rules.is_empty() => {
            Ok(Choice { source_host: alias.to_owned(), ..Choice::default() })
        }
        None => Err(format!(
            "no rule is for host {host}: name it in targetHosts, or add a rule without targetHosts"
        )),
    }
}

fn check(rules: &[Rule]) -> Result<(), String> {
    if rules.iter().filter(|rule| rule.target_hosts.is_empty()).count() > 1 {
        return Err("more than one rule is without targetHosts: leave one".to_owned());
    }
    let mut seen = std::collections::BTreeSet::new();
    for host in rules.iter().flat_map(|rule| &rule.target_hosts) {
        if !seen.insert(host) {
            return Err(format!("host {host} is named by two rules: leave one"));
        }
    }
    for rule in rules {
        if rule.snapshots.len() > 1 {
            return Err(format!(
                "a rule names {} snapshots ({}): a Redis is restored from one",
                rule.snapshots.len(),
                rule.snapshots.join(", ")
            ));
        }
        if !rule.snapshots.is_empty() && !rule.paths.is_empty() {
            return Err("a rule has both snapshots and paths: leave one".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn chosen(rules: Value, alias: &str) -> Result<(String, String), String> {
        let rules: Vec<Rule> = serde_json::from_value(rules).unwrap();
        let restore = choose(&rules, alias)?.restore();
        Ok((restore.snapshot, restore.source_host))
    }

    #[test]
    fn the_rule_for_the_host_wins() {
        for (rules, alias, snapshot, source) in [
            (json!([]), "", "latest", ""),
            (json!([]), "a", "latest", "a"),
            (json!([{"snapshots": ["latest"]}]), "", "latest", ""),
            (json!([{"snapshots": ["4bc21d6f"]}]), "a", "4bc21d6f", "a"),
            (json!([{"targetHosts": ["a"], "sourceHost": "b"}, {}]), "a", "latest", "b"),
            (json!([{"targetHosts": ["a"], "sourceHost": "b"}, {}]), "c", "latest", "c"),
            (json!([{}, {"targetHosts": ["a"], "snapshots": ["1"]}]), "a", "1", "a"),
            (json!([{"sourceHost": "b"}]), "", "latest", "b"),
            (json!([{"targetHosts": ["host-0"], "snapshots": ["7"]}]), "", "7", ""),
        ] {
            let expected = Ok((snapshot.to_owned(), source.to_owned()));
            assert_eq!(chosen(rules.clone(), alias), expected, "{rules} for {alias:?}");
        }
    }

    #[test]
    fn rules_that_contradict_themselves_are_refused() {
        for (rules, part) in [
            (json!([{}, {}]), "more than one rule"),
            (json!([{"targetHosts": ["a"]}, {"targetHosts": ["a"]}]), "host a is named by two"),
            (json!([{"snapshots": ["1", "2"]}]), "2 snapshots (1, 2)"),
            (json!([{"snapshots": ["1"], "paths": ["/x"]}]), "both snapshots and paths"),
            (json!([{"targetHosts": ["b"]}]), "no rule is for host a"),
        ] {
            let error = chosen(rules.clone(), "a").unwrap_err();
            assert!(error.contains(part), "{rules}: {error}");
        }
    }
}
