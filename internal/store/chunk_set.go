package store

import (
	"context"
	"sync"
)

// chunksPerFile is how many chunks of a file are in memory at most: while one is copied, the next is read.
const chunksPerFile = 2

// idleChunks keeps the chunks of files that are loaded for the files that come next. A chunk is as large as workers.chunk, whatever the
// size of its file: made anew for each of many small files, they would be nearly all that is ever allocated, and the heap twice as
// large as what is in use of it. What nobody asks for, the garbage collector takes.
var idleChunks = sync.Pool{New: func() any { return new(chunk) }}

// chunkSet is the chunks of one load: as many as the file has use for, and chunksPerFile at most.
type chunkSet struct {
	size  int
	free  chan *chunk // those that were copied
	taken []*chunk
}

func newChunkSet(size int) *chunkSet {
	return &chunkSet{size: size, free: make(chan *chunk, chunksPerFile)}
}

// next returns an empty chunk for a line of n bytes. Where all are still to be copied, it waits for one that was; for a line that is
// larger than a chunk it does so where there is one at all, so that of such lines one is copied and one is read, and no third is held.
// Only one goroutine may call it.
func (s *chunkSet) next(ctx context.Context, n int) (*chunk, error) {
	select {
	case c := <-s.free:
		return s.ready(c), nil
	default:
	}
	if len(s.taken) == 0 || len(s.taken) < chunksPerFile && n <= s.size {
		c, _ := idleChunks.Get().(*chunk)
		s.taken = append(s.taken, c)
		return s.ready(c), nil
	}
	select {
	case c := <-s.free:
		return s.ready(c), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ready empties a chunk for its next use. Memory that huge lines took is let go once no more of them come: where each is as long, what
// would be let go after each is garbage of its length until the collector comes.
func (s *chunkSet) ready(c *chunk) *chunk {
	held := len(c.arena)
	c.reset()
	if oversized := cap(c.arena) > 2*s.size; cap(c.arena) < s.size || oversized && held <= 2*s.size {
		c.arena = make([]byte, 0, s.size)
	}
	return c
}

// release keeps the chunks for other files. It must not be called while anybody may still read them, as the driver does for a moment
// after a COPY whose connection broke.
func (s *chunkSet) release() {
	for _, c := range s.taken {
		c.reset()
		if cap(c.arena) > 2*s.size {
			c.arena = nil
		}
		idleChunks.Put(c)
	}
	s.taken = nil
}
