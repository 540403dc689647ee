//! The definition is sound, and its help is what users see: a change of it shows in review.
use clap::CommandFactory;

use super::*;

#[test]
fn definition() {
    Cli::command().debug_assert();
}

// Only of the binary that people get: without `standalone` there is a verb less.
#[cfg(feature = "standalone")]
#[test]
fn help_of_every_verb() {
    let mut command = Cli::command().term_width(100);
    command.build();
    insta::assert_snapshot!("help", command.render_long_help().to_string());
    let verbs: Vec<String> = command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .map(|verb| verb.get_name().to_owned())
        .collect();
    for verb in verbs {
        let help = command.find_subcommand_mut(&verb).unwrap().render_help().to_string();
        let silent = ["version"];
        assert!(silent.contains(&verb.as_str()) || help.contains("Examples:"), "{verb}: {help}");
        // The options common to all are shown once, above.
        let own = help.split("Global options:").next().unwrap();
        let examples = help.find("Examples:").map_or("", |at| &help[at..]);
        insta::assert_snapshot!(format!("help_{verb}"), format!("{own}{examples}"));
    }
}

#[test]
fn every_verb_that_takes_a_lock_can_wait_for_it() {
    for verb in [
        "forget orders --keep-last 3",
        "forget orders 1a2b3c4d",
        "prune orders",
        "check orders",
        "stats orders",
        "snapshots orders",
        "download orders",
        "digest orders",
        "diff orders@1a2b orders",
        "copy orders offsite",
        "key list orders",
        "key add orders",
        "key remove orders 1a2b",
        "key change orders",
        "repair index orders",
        "migrate orders",
    ] {
        for wait in ["0", "5m", "1h30m"] {
            parse(&format!("coffer {verb} --retry-lock {wait}")).unwrap();
        }
        for wait in ["5", "-5m", "1d", "soon"] {
            parse(&format!("coffer {verb} --retry-lock={wait}")).unwrap_err();
        }
    }
    parse("coffer unlock orders --retry-lock 5m").unwrap_err();
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn usage() {
    for good in [
        "coffer backup orders -n demo -o json",
        "coffer -n demo backup orders --no-wait",
        "coffer restore orders-restore",
        "coffer restore --repository backups/orders --target orders-redis --snapshot 1a2b3c4d --param waitTimeout=60",
        "coffer apply -f a.yaml -f - -R",
        "coffer pause a b",
        "coffer snapshots",
        "coffer snapshots backups/orders --host a --host b --tag x,y --tag=",
        "coffer forget orders --keep-tag= --keep-tag x,y --host a --host b",
        "coffer status -A",
        "coffer completion bash",
        "coffer forget orders --keep-daily 7 --keep-yearly unlimited --keep-within 2y5m --dry-run",
        "coffer forget backups/orders --keep-last 3 --group-by host,tags --prune --yes",
        "coffer forget orders --keep-last 3 --group-by=",
        "coffer forget orders 1a2b3c4d 5e6f7a8b",
        "coffer prune orders --max-repack-size 0",
        "coffer prune orders --repack-uncompressed --max-repack-size 2G -y",
        "coffer prune orders --max-unused 5% --max-repack-size 2G --dry-run",
        "coffer check orders --read-data-subset 1/7",
        "coffer key add orders --new-password-file - --user alice",
        "coffer key remove orders 1a2b -y",
        "coffer copy orders offsite/orders 1a2b3c4d --init",
        "coffer repair index orders --read-all-packs",
        "coffer download orders --to -",
    ] {
        parse(good).unwrap();
    }
    for bad in [
        "coffer",
        "coffer backup",
        "coffer backup orders --wait --no-wait",
        "coffer restore",
        "coffer restore --repository orders",
        "coffer restore existing --target x",
        "coffer apply",
        "coffer pause",
        "coffer restore --repository a --target b --param novalue",
        "coffer status -o csv",
        "coffer status orders -A",
        "coffer forget orders",
        "coffer forget orders --dry-run",
        "coffer forget orders 1a2b3c4d --keep-last 3",
        "coffer forget orders --keep-last many",
        "coffer forget orders --keep-last 3 --group-by user",
        "coffer prune orders --max-repack-size lots",
        "coffer check orders --read-data --read-data-subset 1/7",
        "coffer key add orders --new-password secret",
        "coffer key",
        "coffer copy orders",
        "coffer repair orders",
    ] {
        assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
    }
    Cli::try_parse_from(["coffer", "key", "remove", "orders", ""]).unwrap_err();
}
