//! The worker as a process of its own.

fn main() -> std::process::ExitCode {
    coffer_worker::main(std::env::args_os())
}
