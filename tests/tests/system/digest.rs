//! `coffer digest` and `coffer diff` of servers and files, which need no cluster: what a url says, and what is refused.

use std::process::{Command, Output};

use anyhow::Result;

use crate::COFFER;

fn coffer(words: &[&str]) -> Command {
    let mut command = Command::new(COFFER);
    command.args(words).env_remove("REDISCLI_AUTH").env_remove("KUBECONFIG");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_file_that_is_no_dump_is_called_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let told = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes)?;
        let path = format!("./{name}");
        let done = coffer(&["digest", "--quiet", &path]).current_dir(folder.path()).output()?;
        anyhow::Ok(said(&done))
    };
    for garbage in ["garbage!", "garbage and more of it"] {
        let text = told("g.rdb", garbage.as_bytes())?;
        let begins = "error: read ./g.rdb: not an RDB file: it begins with \"garbage";
        assert!(text.starts_with(begins), "{text}");
        assert!(text.contains("hint: an RDB file begins with REDIS or VALKEY"), "{text}");
        assert_eq!(text.matches("g.rdb").count(), 1, "{text}");
    }
    let cut = told("cut.rdb", b"REDIS0011")?;
    assert_eq!(cut, "error: read ./cut.rdb: the data ends early, at byte 9\n");
    let none = coffer(&["digest", "./none.rdb"]).current_dir(folder.path()).output()?;
    assert!(said(&none).starts_with("error: read ./none.rdb: No such file"), "{}", said(&none));
    Ok(())
}
