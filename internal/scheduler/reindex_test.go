package scheduler

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestReindexing_is_left_to_the_owner(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		owns bool
		err  error
		want time.Time
	}{
		{"its own tables", true, nil, time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)},
		{"another's", false, nil, now.Add(never)},
		{"nobody says", true, errors.New("the database is away"), now.Add(never)},
	} {
		r := &reindexing{}
		if err := r.look(t.Context(), func(context.Context) (bool, error) { return tt.owns, tt.err }); !errors.Is(err, tt.err) {
			t.Errorf("%s: got %v", tt.name, err)
		}
		if got := r.Next(now); !got.Equal(tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
