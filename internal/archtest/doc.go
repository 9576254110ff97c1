// Package archtest holds the arrows between the packages: a test reads every file's imports and compares them with what
// each package may know.
package archtest
