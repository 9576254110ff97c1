// Package docs holds the tests of the documentation: README.md and whatever Markdown stands under docs and deployments. They fail
// where a page says what is not so.
//
//	markdown_test.go    pages as blocks, links, headings and inline code
//	site_test.go        what commands find: payers, a database that is loaded, a configuration, a daemon
//	blocks_test.go      shell and SQL blocks are executed, and what they print is compared with what the page shows
//	yaml_test.go        YAML is checked by 'ingestd check', or by the simulated payer where it is a fault plan
//	snippets_test.go    JSON is parsed, Go is compiled
//	links_test.go       relative links and their anchors, files and commands in the text, the index
//	stranger_test.go    the stranger's path of docs/getting-started.md, from 'make' to rows
//
// # Marks
//
// The last word of a fence says what is done with a block: sh and sql are executed, in the order of the page, in one shell; yaml, json and
// go are checked; text is for the eye; console is a session, commands behind "$ " with what they print. Any other fails, and so does code
// that is merely indented. An HTML comment right before a block says what differs:
//
//	<!-- not run: REASON -->   it is not executed; the test lists it with the reason, and still looks whether its commands exist
//	<!-- output -->            a text block: what the block before it prints; … stands for anything, a line … for any lines
//	<!-- exit: N -->           it ends with this exit code
//	<!-- faults -->            YAML: a fault plan of payersim
//	<!-- daemon -->            anywhere on the page: 'ingestd serve' runs meanwhile
//
// In what is executed, /etc/ingestd, 127.0.0.1:8090 and 127.0.0.1:8180 are those of the prepared site.
//
// The package is a module of its own so that the Markdown parser is none of the product's dependencies.
package docs
