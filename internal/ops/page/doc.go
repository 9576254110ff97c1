// Package page is the status page of the admin listener: what an operator sees of the fleet in a browser, and the buttons of control.
//
// Pages are rendered on the server and work without JavaScript; with it, they follow what happens by server-sent events. Whatever
// the number of viewers, the database is asked for the overview once in two seconds while somebody looks, and each detail at most
// once a second. Where the database does not answer, pages show what was last known and say so.
//
// A browser sends no bearer token by itself: the sign-in form takes the admin token and gives a session, a signed cookie. Each act
// takes a session, a token of the form that belongs to it, and a request of the page's own origin; it is the same as the API's,
// with the same event in the audit. Nothing is loaded from elsewhere, and no script or style stands in a page.
package page
