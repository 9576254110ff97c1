package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// cronFields are the fields of a cron expression in their order, with what each takes.
var cronFields = []struct{ name, want string }{
	{"minute", "0 to 59"},
	{"hour", "0 to 23"},
	{"day", "1 to 31"},
	{"month", "1 to 12, or JAN to DEC"},
	{"weekday", "0 to 6 (0 is Sunday), or SUN to SAT"},
}

// validSchedule says what is wrong with a schedule; nil where nothing is.
func validSchedule(expression string) error {
	if strings.HasPrefix(expression, "TZ=") || strings.HasPrefix(expression, "CRON_TZ=") {
		return errors.New("expected the timezone in the key timezone")
	}
	if interval, ok := strings.CutPrefix(expression, "@every "); ok {
		return validInterval(interval)
	}
	schedule, err := cron.ParseStandard(expression)
	if err != nil {
		return wrongSchedule(expression)
	}
	// The instant is arbitrary: cron looks five years ahead, which hold a 29 February.
	if schedule.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return errors.New("never comes: expected a day that its month has")
	}
	return nil
}

func validInterval(text string) error {
	switch interval, err := time.ParseDuration(text); {
	case err != nil:
		return errors.New("expected an interval such as @every 6h")
	case interval < time.Second:
		return errors.New("expected an interval of 1s or more")
	case interval%time.Second != 0: // cron would leave the rest out
		return errors.New("expected an interval of whole seconds")
	}
	return nil
}

// wrongSchedule says which part of an expression that cron does not take is wrong.
func wrongSchedule(expression string) error {
	if strings.HasPrefix(expression, "@") {
		return errors.New("expected @hourly, @daily, @weekly, @monthly, @yearly, or @every 6h")
	}
	fields := strings.Fields(expression)
	if len(fields) != len(cronFields) {
		return errors.New("expected five fields (minute hour day month weekday), a descriptor such as @daily, or @every 6h")
	}
	for i, field := range fields {
		alone := []string{"*", "*", "*", "*", "*"}
		alone[i] = field
		if _, err := cron.ParseStandard(strings.Join(alone, " ")); err != nil {
			return fmt.Errorf("%s %s: expected %s; or *, ranges, lists and steps of them", cronFields[i].name, excerpt(field), cronFields[i].want)
		}
	}
	return errors.New("cannot be read: expected five fields (minute hour day month weekday)")
}
