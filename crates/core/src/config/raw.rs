//! The settings as they were given: one list of values, each with its origin.

use crate::secret::Secret;
use crate::settings::Setting;

/// Where a value was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// On the command line.
    Option,
    /// In the environment.
    Variable,
}

/// One value as it was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RawValue {
    /// Where it was given.
    pub origin: Origin,
    /// The name there: of an option without its dashes, of a variable as it is.
    pub name: String,
    /// The value. That of an option without a value, which only a switch may be, is empty.
    pub value: Secret,
    /// Whether the value ended with a line break, which was removed: see [`RawSettings::cleaned`].
    pub had_line_break: bool,
}

impl RawValue {
    /// The value of an option, named without its dashes.
    #[must_use]
    pub const fn option(name: String, value: Secret) -> Self {
        Self { origin: Origin::Option, name, value, had_line_break: false }
    }

    /// The value of a variable.
    #[must_use]
    pub const fn variable(name: String, value: Secret) -> Self {
        Self { origin: Origin::Variable, name, value, had_line_break: false }
    }

    /// The name as a user writes it where the value was given: `--ca-file` or `DEXSIDECAR_CA_FILE`.
    #[must_use]
    pub fn shown_name(&self) -> String {
        match self.origin {
            Origin::Option => format!("--{}", self.name),
            Origin::Variable => self.name.clone(),
        }
    }
}

/// The settings as they were given. Unrelated variables are ignored.
#[derive(Clone, Debug, Default)]
pub struct RawSettings {
    /// The values. Those of one origin are in the order in which they were given.
    pub values: Vec<RawValue>,
}

impl RawSettings {
    /// The settings that these variables make.
    #[must_use]
    pub fn of_variables(variables: impl IntoIterator<Item = (String, Secret)>) -> Self {
        let values = variables.into_iter().map(|(name, value)| RawValue::variable(name, value));
        Self { values: values.collect() }
    }

    /// The values of one origin.
    pub fn given_as(&self, origin: Origin) -> impl Iterator<Item = &RawValue> {
        self.values.iter().filter(move |given| given.origin == origin)
    }

    /// The values of an option, named without its dashes, in order.
    pub fn options(&self, name: &str) -> impl Iterator<Item = &RawValue> {
        self.given_as(Origin::Option).filter(move |given| given.name == name)
    }

    /// The value of a setting that counts: that of the last option, else that of the variable. An
    /// empty variable counts as unset.
    #[must_use]
    pub fn effective(&self, setting: &Setting) -> Option<&RawValue> {
        let variable = || self.variable(setting.variable).filter(|given| !given.value.is_empty());
        self.options(setting.option).last().or_else(variable)
    }

    /// The value of a variable, if it is set.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&RawValue> {
        self.given_as(Origin::Variable).find(|given| given.name == name)
    }
}
