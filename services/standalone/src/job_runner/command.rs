//! From a container's specification to the process that stands for it. Pure.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;

use super::Program;

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) dir: PathBuf,
    /// What stands for the container's image.
    pub(super) image: Program,
    /// What stands for the container's paths.
    pub(super) mounts: Vec<Mount>,
}

/// A path inside the container, and what stands for it here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) inside: String,
    pub(super) outside: PathBuf,
}

/// The process of a container. `env` is complete and in order; `home` is where it starts when the
/// container names no working directory.
///
/// A `command` replaces the program, as it replaces an image's entrypoint, unless it names the same
/// executable: an image's own path to it is not where it is here.
pub(super) fn launch(
    container: &Container,
    program: &Program,
    env: Vec<(String, String)>,
    mounts: &[Mount],
    home: &Path,
) -> Launch {
    let text = |text: &String| outside(&expand(text, &env), mounts);
    let mut command = container.command.iter().flatten().map(text);
    let args = container.args.iter().flatten().map(text);
    let (path, leading) = entry(command.next(), program);
    let args = leading.into_iter().chain(command).chain(args).collect();
    let dir = match container.working_dir.as_deref().filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(outside(dir, mounts)),
        None => home.to_owned(),
    };
    let env = env.into_iter().map(|(name, value)| (name, outside(&value, mounts))).collect();
    let (image, mounts) = (program.clone(), mounts.to_vec());
    Launch { program: path, args, env, dir, image, mounts }
}

impl Launch {
    /// A further command in the same container: the same environment, folder and paths. Nothing in it is expanded, as
    /// in Kubernetes.
    pub(super) fn further(&self, command: &[String]) -> Self {
        let mut words = command.iter().map(|word| outside(word, &self.mounts));
        let (program, leading) = entry(words.next(), &self.image);
        Self { program, args: leading.into_iter().chain(words).collect(), ..self.clone() }
    }
}

/// The program of a command that begins with `first`, and its leading arguments.
fn entry(first: Option<String>, image: &Program) -> (PathBuf, Vec<String>) {
    match first {
        Some(first) if Path::new(&first).file_name() != image.path.file_name() => {
            (PathBuf::from(first), Vec::new())
        }
        _ => (image.path.clone(), image.args.clone()),
    }
}

/// `$(NAME)` becomes the variable's value, `$$` a dollar sign; an unknown name stays as it is.
pub(super) fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            result.push('$');
            rest = after;
            continue;
        }
        let named = rest.strip_prefix("$(").and_then(|inside| inside.split_once(')'));
        let value = named.and_then(|(name, after)| {
            let found = env.iter().rev().find(|(known, _)| known == name)?;
            Some((found.1.as_str(), after))
        });
        match value {
            Some((value, after)) => {
                result.push_str(value);
                rest = after;
            }
            None => {
                result.push('$');
                rest = &rest[1..];
            }
        }
    }
    result.push_str(rest);
    result
}

/// Replaces every mount path that stands where a path begins and ends where a component ends.
pub(super) fn outside(text: &str, mounts: &[Mount]) -> String {
    let mut mounts: Vec<&Mount> = mounts.iter().filter(|m| m.inside.len() > 1).collect();
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.inside.len()));
    let mut result = String::with_capacity(text.len());
    let mut before = None;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let found = mounts.iter().find(|mount| {
            begins(before)
                && rest
                    .strip_prefix(mount.inside.as_str())
                    .is_some_and(|after| ends(after.chars().next()))
        });
        if let Some(mount) = found {
            result.push_str(&mount.outside.to_string_lossy());
            rest = &rest[mount.inside.len()..];
            before = mount.inside.chars().next_back();
        } else {
            result.push(next);
            before = Some(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    result
}

/// Whether a path can begin after this character: `--dir=/x` and `file:///x` do, `a/x` does not.
fn begins(before: Option<char>) -> bool {
    before.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '}' | '*')))
}

fn ends(after: Option<char>) -> bool {
    after.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~')))
}
