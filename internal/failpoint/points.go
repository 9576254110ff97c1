package failpoint

import "slices"

// Point is a place at which the process can be made to die.
type Point string

// The places, in the order in which an export passes them. Those that end in _commit lie in a transaction, as its last step.
const (
	TickCommit        Point = "tick_commit"
	TickCommitted     Point = "tick_committed"
	TokenSend         Point = "token_send"
	TokenGranted      Point = "token_granted"
	KickOffNoted      Point = "kick_off_noted"
	KickOffAccepted   Point = "kick_off_accepted"
	KickOffCommit     Point = "kick_off_commit"
	KickOffCommitted  Point = "kick_off_committed"
	PollAnswered      Point = "poll_answered"
	PollNoted         Point = "poll_noted"
	ManifestCommit    Point = "manifest_commit"
	ManifestCommitted Point = "manifest_committed"
	FileLocked        Point = "file_locked"
	StageCommitted    Point = "stage_committed"
	ChunkCommit       Point = "chunk_commit"
	ChunkCommitted    Point = "chunk_committed"
	FileCommit        Point = "file_commit"
	FileCommitted     Point = "file_committed"
	PublishBegin      Point = "publish_begin"
	PrepareCommit     Point = "prepare_commit"
	PrepareCommitted  Point = "prepare_committed"
	PublishInside     Point = "publish_inside"
	PublishCommit     Point = "publish_commit"
	PublishCommitted  Point = "publish_committed"
	CleanUpBegin      Point = "clean_up_begin"
	CleanUpDropped    Point = "clean_up_dropped"
	CleanUpDeleted    Point = "clean_up_deleted"
	CleanUpCommitted  Point = "clean_up_committed"
	ReclaimCommit     Point = "reclaim_commit"
	ReclaimCommitted  Point = "reclaim_committed"
)

var points = []Point{
	TickCommit, TickCommitted, TokenSend, TokenGranted, KickOffNoted, KickOffAccepted, KickOffCommit, KickOffCommitted, PollAnswered,
	PollNoted, ManifestCommit, ManifestCommitted, FileLocked, StageCommitted, ChunkCommit, ChunkCommitted, FileCommit, FileCommitted,
	PublishBegin, PrepareCommit, PrepareCommitted, PublishInside, PublishCommit, PublishCommitted, CleanUpBegin, CleanUpDropped,
	CleanUpDeleted, CleanUpCommitted, ReclaimCommit, ReclaimCommitted,
}

// Points returns all places.
func Points() []Point { return slices.Clone(points) }

// Variable is the environment variable that names the place.
const Variable = "INGESTD_FAILPOINT"
