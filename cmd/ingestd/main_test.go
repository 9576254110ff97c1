package main

import (
	"testing"

	"ingestd/internal/testpg"
)

func TestMain(m *testing.M) { testpg.Main(m) }
