//! Programs of the host that do one thing and end.

use std::io;
use std::process::{Command, ExitStatus};

/// A program did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("{program} does not start; hil-tests/run installs what the rig needs")]
    Start {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with another code than 0.
    #[error("{program} ended with {status}: {output}")]
    Failed {
        /// Which.
        program: String,
        /// How.
        status: ExitStatus,
        /// What it wrote.
        output: String,
    },
}

/// Runs it to its end and hands over what it wrote to stdout.
pub fn run(command: &mut Command) -> Result<String, ToolError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|source| ToolError::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stderr, output.stdout].concat();
    Err(ToolError::Failed { program, status: output.status, output: String::from_utf8_lossy(&said).trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_of_its_failure_is_told() {
        let error = run(Command::new("sh").args(["-c", "echo no paper >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("no paper"), "{error}");
        assert_eq!(run(Command::new("sh").args(["-c", "echo fine"])).expect("sh is everywhere"), "fine\n");
    }
}
