//! What is measured, and how the two sides are run.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use coffer_restic::speed::Steps;
use rustix::fs::{Advice, fadvise};

use crate::data::{self, Kind};
use crate::engine::{FILE, PASSWORD, Settings};
use crate::measure::{self, Output, Usage};
use crate::report::{Figure, Unit};
use crate::{Args, Result};

const MIB: f64 = 1_048_576.0;
/// What one stream, and a gateway with 32 of them, may take beside the index.
const PROMISED_STREAM: f64 = 64.0;
const PROMISED_GATEWAY: f64 = 512.0;

/// The best of the rounds, each figure for itself.
struct Best {
    seconds: f64,
    cpu: f64,
    peak: u64,
}

impl Best {
    fn of(rounds: &[Usage]) -> Self {
        let least = |value: fn(&Usage) -> f64| rounds.iter().map(value).fold(f64::MAX, f64::min);
        Self {
            seconds: least(|usage| usage.wall.as_secs_f64()),
            cpu: least(|usage| usage.cpu),
            peak: rounds.iter().map(|usage| usage.peak).max().unwrap_or(0),
        }
    }
}

/// A backup, the same again, and a read, beside restic's.
pub(crate) fn one_stream(args: &Args, folder: &Path, kind: Kind) -> Result<Vec<Figure>> {
    let file = folder.join(kind.name());
    eprintln!("making {} MiB of {} data", args.mib, kind.name());
    data::write(kind, args.mib << 20, &file)?;
    let steps = Steps::measure(&fs::read(&file)?[..(64 << 20).min((args.mib as usize) << 20)]);
    eprintln!("one processor, alone: {steps:.1?}");
    let peer = Peer::new();
    let mut figures = Vec::new();
    for settings in [Settings::Default, peer.fastest()] {
        let mut rounds: [[Vec<Usage>; 2]; 3] = Default::default();
        for round in 1..=args.rounds {
            eprintln!("{} data, {} settings, round {round}", kind.name(), settings.name());
            let (ours, theirs) = (folder.join("ours"), folder.join("theirs"));
            measure::run(
                child().args(["init".as_ref(), ours.as_os_str()]),
                None,
                Output::Discarded,
            )?;
            measure::run(peer.command(&theirs).arg("init"), None, Output::Discarded)?;
            // The second backup and the read depend little on how the first was made.
            let repeats = if settings == Settings::Default { 3 } else { 1 };
            for (step, [us, them]) in rounds.iter_mut().enumerate().take(repeats) {
                settle(&ours)?;
                us.push(match step {
                    0 | 1 => {
                        let words = ["backup".as_ref(), ours.as_os_str(), settings.name().as_ref()];
                        measure::run(child().args(words), Some(&file), Output::Discarded)?
                    }
                    _ => {
                        let words = ["read".as_ref(), ours.as_os_str()];
                        measure::run(child().args(words), None, Output::Discarded)?
                    }
                });
                settle(&theirs)?;
                them.push(match step {
                    0 | 1 => peer.backup(&theirs, settings, &file)?,
                    _ => peer.read(&theirs)?,
                });
            }
            fs::remove_dir_all(ours)?;
            fs::remove_dir_all(theirs)?;
        }
        let bytes = (args.mib << 20) as f64;
        let limits =
            steps.limits(settings == Settings::Default, settings != Settings::Uncompressed);
        let names = ["first backup", "second backup", "read"];
        let limits = [limits.first, limits.second, limits.read];
        for ((name, [us, them]), limit) in names.into_iter().zip(&rounds).zip(limits) {
            if us.is_empty() {
                continue;
            }
            let (us, them) = (Best::of(us), Best::of(them));
            let case = |what: &str| format!("{}, {name}, {}{what}", kind.name(), settings.name());
            let figure = |what, unit, value: fn(&Best, f64) -> f64, limit| Figure {
                case: case(what),
                ours: value(&us, bytes),
                peer: Some(value(&them, bytes)),
                unit,
                limit: Some(limit),
            };
            let cores = cores();
            figures.extend([
                figure("", Unit::Speed, |b, n| n / 1e6 / b.seconds, cores * 1e3 / limit),
                figure(" (CPU)", Unit::Cpu, |b, n| b.cpu * 1024.0 * MIB / n, limit * 1.073_741_824),
                figure(" (memory)", Unit::Memory, |b, _| b.peak as f64 / MIB, PROMISED_STREAM),
            ]);
        }
    }
    fs::remove_file(file)?;
    Ok(figures)
}

/// Many backups at once into one repository, beside one backup of the same data.
pub(crate) fn many_streams(args: &Args, folder: &Path) -> Result<Vec<Figure>> {
    let file = folder.join("many");
    data::write(Kind::Redis, args.mib << 20, &file)?;
    let steps = Steps::measure(&fs::read(&file)?[..(64 << 20).min((args.mib as usize) << 20)]);
    let count = args.streams.to_string();
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        eprintln!("{count} streams, round {round}");
        for (streams, rounds) in [("1", &mut one), (&count, &mut many)] {
            let ours = folder.join("ours");
            measure::run(
                child().args(["init".as_ref(), ours.as_os_str()]),
                None,
                Output::Discarded,
            )?;
            sync()?;
            let words = ["streams".as_ref(), ours.as_os_str(), streams.as_ref(), file.as_os_str()];
            rounds.push(measure::run(child().args(words), None, Output::Kept)?);
            fs::remove_dir_all(ours)?;
        }
    }
    fs::remove_file(file)?;
    let fairness = many.iter().map(fairness).collect::<Result<Vec<_>>>()?;
    let (one, many) = (Best::of(&one), Best::of(&many));
    let speed = |best: &Best| (args.mib << 20) as f64 / 1e6 / best.seconds;
    let case = |what: &str| format!("{count} streams at once, {what}");
    Ok(vec![
        Figure {
            case: case("sum (peer: one stream)"),
            ours: speed(&many),
            peer: Some(speed(&one)),
            unit: Unit::Speed,
            limit: Some(cores() * 1e3 / steps.limits(true, true).first),
        },
        Figure {
            case: case("fairness"),
            ours: fairness.into_iter().fold(f64::MAX, f64::min),
            peer: None,
            unit: Unit::Fairness,
            limit: Some(1.0),
        },
        Figure {
            case: case("memory"),
            ours: many.peak as f64 / MIB,
            peer: None,
            unit: Unit::Memory,
            limit: Some(PROMISED_GATEWAY),
        },
    ])
}

/// How fast the slowest stream was, compared with the fastest.
fn fairness(streams: &Usage) -> Result<f64> {
    let seconds = streams.output.lines().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let least = seconds.iter().copied().fold(f64::MAX, f64::min);
    let most = seconds.iter().copied().fold(0.0, f64::max);
    Ok(least / most)
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// This program, as one of the two that are measured.
fn child() -> Command {
    let mut command =
        Command::new(std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()));
    command.arg("child");
    command
}

/// What earlier runs left to be written must not slow the next one.
fn sync() -> Result<()> {
    measure::run(&mut Command::new("sync"), None, Output::Discarded).map(drop)
}

/// The same, and no pack is in the system's cache: whoever needs a backup has not just written it.
fn settle(repository: &Path) -> Result<()> {
    sync()?;
    // Not there yet before the first backup.
    for folder in fs::read_dir(repository.join("data")).into_iter().flatten() {
        for pack in fs::read_dir(folder?.path())? {
            fadvise(File::open(pack?.path())?, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// The restic program.
struct Peer {
    program: String,
    help: String,
}

impl Peer {
    fn new() -> Self {
        let program = std::env::var("RESTIC").unwrap_or_else(|_| "restic".into());
        let help = Command::new(&program).args(["backup", "--help"]).output();
        let help = help.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        Self { program, help: help.unwrap_or_default() }
    }

    /// `--compression fastest` came with 0.19; before it, the fastest is to compress nothing.
    fn fastest(&self) -> Settings {
        if self.help.contains("fastest") { Settings::Fastest } else { Settings::Uncompressed }
    }

    fn command(&self, repository: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--no-cache", "--quiet", "--repo"]).arg(repository);
        command.env("RESTIC_PASSWORD", PASSWORD);
        command
    }

    fn backup(&self, repository: &Path, settings: Settings, file: &Path) -> Result<Usage> {
        let mut command = self.command(repository);
        let name = FILE.trim_start_matches('/');
        command.args(["backup", "--stdin", "--stdin-filename", name]);
        match settings {
            Settings::Default => {}
            Settings::Fastest => drop(command.args(["--compression", "fastest"])),
            Settings::Uncompressed => drop(command.args(["--compression", "off"])),
        }
        if settings != Settings::Default && self.help.contains("--no-extra-verify") {
            command.arg("--no-extra-verify");
        }
        measure::run(&mut command, Some(file), Output::Discarded)
    }

    fn read(&self, repository: &Path) -> Result<Usage> {
        let mut command = self.command(repository);
        command.args(["dump", "latest", FILE]);
        measure::run(&mut command, None, Output::Discarded)
    }
}
