//! The lines of JSON that the checks leave, as a table of recipes by environments.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// What the recipes are about, by number from 1.
const RECIPES: &[&str] = &[
    "custom layer as SavedModel",
    "weights alone",
    "saver of named variables",
    "compiled SavedModel",
    "whole model in HDF5",
    "JSON and npy",
    ".keras archive",
    "pickle",
    "models from the wild",
    "everything at once",
];

const DIRECTIONS: &[&str] = &["modelark-wrote", "tensorflow-wrote"];

/// The result of one check.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    environment: String,
    recipe: usize,
    direction: String,
    name: String,
    passed: bool,
    detail: String,
}

/// Reads the lines of one environment.
pub fn read(path: &Path) -> Result<Vec<Row>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.lines()
        .map(|line| row(line).ok_or_else(|| format!("{}: not a result: {line}", path.display())))
        .collect()
}

fn row(line: &str) -> Option<Row> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
    Some(Row {
        environment: text("environment")?,
        recipe: value.get("recipe")?.as_u64()?.try_into().ok()?,
        direction: text("direction")?,
        name: text("name")?,
        passed: value.get("passed")?.as_bool()?,
        detail: text("detail")?,
    })
}

/// Recipes and directions down, environments across, passed of all in the cells.
pub fn render(rows: &[Row], columns: &[&str]) -> String {
    let mut text = format!("\n{:<4}{:<30}{:<20}", "", "recipe", "direction");
    for column in columns {
        text += &format!("{column:>15}");
    }
    text.push('\n');
    for (number, recipe) in (1..).zip(RECIPES) {
        for direction in DIRECTIONS {
            let cell = |column: &str| {
                let here = || {
                    rows.iter().filter(|r| {
                        r.recipe == number && r.direction == *direction && r.environment == column
                    })
                };
                match (here().filter(|r| r.passed).count(), here().count()) {
                    (_, 0) => "-".to_owned(),
                    (passed, all) if passed == all => format!("{passed}/{all}"),
                    (passed, all) => format!("FAILED {passed}/{all}"),
                }
            };
            let cells: Vec<String> = columns.iter().map(|column| cell(column)).collect();
            if cells.iter().all(|cell| cell == "-") {
                continue;
            }
            text += &format!("{number:<4}{recipe:<30}{direction:<20}");
            for cell in cells {
                text += &format!("{cell:>15}");
            }
            text.push('\n');
        }
    }
    text.push('\n');
    text
}

/// Every check with its verdict and what it saw.
pub fn list(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let verdict = if row.passed { "passed" } else { "FAILED" };
        let Row { environment, recipe, direction, name, detail, .. } = row;
        text += &format!("{verdict} {environment:<13} {recipe} {direction:<17} {name}: {detail}\n");
    }
    text
}

/// A line for each check that failed.
pub fn failures(rows: &[Row]) -> Vec<String> {
    let failed = rows.iter().filter(|row| !row.passed);
    failed
        .map(|r| format!("{} recipe {} {}: {}: {}", r.environment, r.recipe, r.direction, r.name, r.detail))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"environment": "tf221", "recipe": 5, "direction": "modelark-wrote", "name": "fit goes on",
        "passed": false, "detail": "losses nan", "seconds": 0.1}"#;

    #[test]
    fn a_cell_counts_what_passed() {
        let failed = row(LINE).expect("a result");
        let rows = [failed.clone(), Row { passed: true, ..failed }];
        let text = render(&rows, &["tf215", "tf221"]);
        assert!(
            text.contains(
                "5   whole model in HDF5           modelark-wrote                    -     FAILED 1/2\n"
            ),
            "{text}"
        );
        assert_eq!(failures(&rows), ["tf221 recipe 5 modelark-wrote: fit goes on: losses nan"]);
        assert!(list(&rows).contains("passed tf221"));
    }

    #[test]
    fn what_is_no_result_is_none() {
        assert_eq!(row("{}"), None);
        assert_eq!(row("Traceback"), None);
    }
}
