//! serde's view of a spanned TOML value.

use std::collections::HashSet;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;
use tapgate_engine::config::Segment;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, TOO_LARGE};
use crate::document::Value;

/// The parts of a document that are passed over, by address.
pub type Skipped<'t> = HashSet<*const Value<'t>>;

/// A table, less what is skipped.
#[derive(Clone, Copy)]
pub struct Table<'de, 't> {
    table: &'de DeTable<'t>,
    skipped: &'de Skipped<'t>,
}

impl<'de, 't> Table<'de, 't> {
    /// The whole of `table` but what is in `skipped`.
    pub fn new(table: &'de DeTable<'t>, skipped: &'de Skipped<'t>) -> Self {
        Self { table, skipped }
    }
}

impl<'de> Deserializer<'de> for Table<'de, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(Entries {
            entries: self.table.iter(),
            skipped: self.skipped,
            current: None,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

/// A value, less what is skipped.
#[derive(Clone, Copy)]
struct Node<'de, 't> {
    value: &'de Value<'t>,
    skipped: &'de Skipped<'t>,
}

impl<'de> Deserializer<'de> for Node<'de, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_borrowed_str(text),
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => visitor.visit_i64(number),
                    Err(_) => Err(Fault::custom(TOO_LARGE)),
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(Fault::custom(TOO_LARGE)),
            },
            DeValue::Datetime(_) => Err(Fault::invalid_type(Unexpected::Other("a date"), &visitor)),
            DeValue::Array(array) => visitor.visit_seq(Elements {
                elements: array.iter().enumerate(),
                skipped: self.skipped,
            }),
            DeValue::Table(table) => Table::new(table, self.skipped).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value.get_ref() {
            DeValue::String(text) => {
                let word: StrDeserializer<'_, Fault> = text.as_ref().into_deserializer();
                visitor.visit_enum(word)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Entries<'de, 't, I> {
    entries: I,
    skipped: &'de Skipped<'t>,
    current: Option<(&'de str, &'de Value<'t>)>,
}

impl<'de, 't, I> MapAccess<'de> for Entries<'de, 't, I>
where
    't: 'de,
    I: Iterator<Item = (&'de toml::Spanned<toml::de::DeString<'t>>, &'de Value<'t>)>,
{
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let next = self
            .entries
            .by_ref()
            .find(|(_, value)| !self.skipped.contains(&std::ptr::from_ref(*value)));
        let Some((key, value)) = next else {
            return Ok(None);
        };
        let key = key.get_ref().as_ref();
        self.current = Some((key, value));
        seed.deserialize(BorrowedStrDeserializer::new(key))
            .map(Some)
            .map_err(|fault: Fault| fault.inside(Segment::Key(key.to_owned())))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, value)) = self.current.take() else {
            return Err(Fault::custom("a value was asked for before its key"));
        };
        let node = Node {
            value,
            skipped: self.skipped,
        };
        seed.deserialize(node)
            .map_err(|fault| fault.inside(Segment::Key(key.to_owned())))
    }
}

struct Elements<'de, 't, I> {
    elements: I,
    skipped: &'de Skipped<'t>,
}

impl<'de, 't, I> SeqAccess<'de> for Elements<'de, 't, I>
where
    't: 'de,
    I: Iterator<Item = (usize, &'de Value<'t>)>,
{
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let next = self
            .elements
            .by_ref()
            .find(|(_, value)| !self.skipped.contains(&std::ptr::from_ref(*value)));
        let Some((index, value)) = next else {
            return Ok(None);
        };
        let node = Node {
            value,
            skipped: self.skipped,
        };
        seed.deserialize(node)
            .map(Some)
            .map_err(|fault| fault.inside(Segment::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        self.elements.size_hint().1
    }
}
