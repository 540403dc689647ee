//! The `coffer` program, built beside the tests that run it.

fn main() -> std::process::ExitCode {
    coffer_cli::main()
}
