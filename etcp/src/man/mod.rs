//! `etcp man`: a manual page for the program and for each command, generated from the definition
//! of the command line.

mod sections;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::{Cli, ManArgs};
use crate::exit::ExitError;

/// Writes the pages into a folder, and creates the folder if it is missing.
pub(crate) fn run(args: &ManArgs) -> Result<(), ExitError> {
    let folder = &args.folder;
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let written = fs::create_dir_all(folder).and_then(|()| write_all(&cli, folder));
    written.map_err(|error| {
        let why = match folder.metadata() {
            Ok(found) if !found.is_dir() => "it is not a folder".to_owned(),
            _ => error.to_string(),
        };
        ExitError::Failed(format!("cannot write manual pages to {}: {why}", folder.display()))
    })
}

fn write_all(command: &Command, folder: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands() {
        write_all(subcommand, folder)?;
    }
    let man = Man::new(command.clone()).source(concat!("etcp ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    render(command, &man, &mut page)?;
    fs::write(folder.join(man.get_filename()), page)
}

/// Renders the page as [`Man::render`] does, but with the usage as its synopsis, and with sections
/// after the options.
fn render(command: &Command, man: &Man, page: &mut Vec<u8>) -> io::Result<()> {
    man.render_title(page)?;
    man.render_name_section(page)?;
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    write!(page, ".SH SYNOPSIS\n.nf\n{}\n.fi\n", usage.lines().map(escape).collect::<String>())?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    let mut after = after.map(|text| format!("{text}\n")).unwrap_or_default();
    let name = man.get_filename();
    after.extend(sections::of(&name));
    page.extend(format_sections(&after).into_bytes());
    writeln!(page, ".SH SEE ALSO\n{}ssh(1), sshd(8)", sections::see_also(&name))
}

/// Formats the sections after the options: a line at the margin that ends with a colon is a
/// heading, and every other line is shown unchanged.
fn format_sections(text: &str) -> String {
    let mut page = String::new();
    let mut is_open = false;
    for line in text.lines() {
        match line.strip_suffix(':').filter(|heading| !heading.starts_with(' ')) {
            Some(heading) => {
                page += if is_open { ".fi\n" } else { "" };
                page += &format!(".SH {}\n.nf\n", heading.to_uppercase());
                is_open = true;
            }
            None => page += &escape(line),
        }
    }
    page + if is_open { ".fi\n" } else { "" }
}

/// Escapes a line so that troff shows it unchanged.
fn escape(line: &str) -> String {
    format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_and_examples_are_told_apart() {
        let page = format_sections(
            "Examples:\n  Do this:\n    etcp 'x' -L a\\b\n\nExit status:\n  0  well",
        );
        let expected = ".SH EXAMPLES\n.nf\n\\&  Do this:\n\\&    etcp \\(aqx\\(aq \\-L a\\eb\n\\&\n\
                        .fi\n.SH EXIT STATUS\n.nf\n\\&  0  well\n.fi\n";
        assert_eq!(page, expected);
    }
}
