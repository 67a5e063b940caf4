//! The `tare` program: see the library's front page for where everything is.

use std::process::ExitCode;

fn main() -> ExitCode {
    match tare::commands::main(std::env::args_os()) {
        Ok(status) => ExitCode::from(status as u8),
        Err(error) => {
            tare::log::fatal(&error);
            ExitCode::from(1)
        }
    }
}
