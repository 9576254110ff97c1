package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bounds checks each value of a struct against the description of its key. Where the value stands is path; where its
// description stands is described.
func (c checker) bounds(value reflect.Value, path, described string) {
	for _, f := range orderedFields(value.Type()) {
		at, k := join(path, f.key), join(described, f.key)
		switch v := value.Field(f.index); v.Kind() {
		case reflect.Struct:
			c.bounds(v, at, k)
		case reflect.Slice:
			c.elements(v, at, k)
		case reflect.Map, reflect.Bool:
		case reflect.String:
			c.text(v.String(), at, describeKey(k))
		default:
			c.number(v, at, describeKey(k))
		}
	}
}

func (c checker) elements(list reflect.Value, path, described string) {
	for i := range list.Len() {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch v := list.Index(i); {
		case described == "keys", described == "payers", described == "notify": // they are checked where each of them stands
		case v.Kind() == reflect.Struct:
			c.bounds(v, at, described+"[]")
		case strings.TrimSpace(v.String()) == "":
			c.at(at, "is empty: expected a string")
		}
	}
}

func (c checker) text(text, at string, k key) {
	switch {
	case text == "" && k.want != "":
		c.at(at, "is missing: expected %s", k.want)
	case text == "" && k.standard != "":
	case k.enum != nil && !slices.Contains(k.enum, text):
		c.at(at, "%s is not known: expected one of %s", excerpt(text), strings.Join(k.enum, ", "))
	}
}

func (c checker) number(v reflect.Value, at string, k key) {
	below := k.low != "" && !(numeric(v) >= bound(v.Type(), k.low)) // a NaN is below
	above := k.high != "" && numeric(v) > bound(v.Type(), k.high)
	switch {
	case !below && !above:
	case k.high == "":
		c.at(at, "%s is out of range: expected %s or more", valueText(v), k.low)
	default:
		c.at(at, "%s is out of range: expected %s to %s", valueText(v), k.low, k.high)
	}
}

func numeric(v reflect.Value) float64 {
	if v.CanFloat() {
		return v.Float()
	}
	return float64(v.Int())
}

// bound reads a bound in the notation of the file; a test reads all of them.
func bound(t reflect.Type, text string) float64 {
	var n float64
	var err error
	switch t {
	case durationType:
		var d time.Duration
		d, err = time.ParseDuration(text)
		n = float64(d)
	case sizeType:
		var s Size
		s, err = parseSize(text)
		n = float64(s)
	default:
		n, err = strconv.ParseFloat(text, 64)
	}
	if err != nil {
		panic("config: a bound cannot be read: " + text)
	}
	return n
}

// valueText writes a number, size or duration as it would be written in a file.
func valueText(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return durationText(value)
	case fmt.Stringer:
		return value.String()
	default:
		return fmt.Sprint(value)
	}
}
