// Package server serves the page: its files, its websocket, and the training
// runs that readers start.
//
// # How a question travels
//
//	conn     one websocket; reads and checks messages, writes what the session says
//	session  a reader; numbers the server's messages and keeps the latest, so that
//	         a new connection goes on where the lost one stopped
//	sched    who computes next: a fixed number of slots, shared fairly
//	hub      the models; each slot at work holds a replica of the model it asks
//	ask      one question: queued → start → frames → end
//	score    what-ifs about its chains, the same way: queued → scored
//	resample its chains written afresh: queued → resampled … → end
//	v1       programs ask over plain HTTP: the same queue and models, no session
//
// # Invariants
//
//   - A message gets its number when it enters the session's log; a connection
//     is only a cursor into that log. So no message is lost or doubled by a
//     reconnect, and a reader who does not keep up falls off the log's end and
//     is told so, while nobody else waits for it.
//   - One goroutine writes to a connection, one reads from it.
//   - A model's methods exclude each other, so every computing slot has a
//     replica of its own. Weights of a small model are cheap to copy; of a large
//     one there is a single replica, for which slots wait.
//   - The browser never names a file. Models and runs are looked up in lists,
//     vocabularies and static files in maps made at start.
//   - A reader who leaves cancels what it asked. A run goes on: it belongs to
//     the server, and survives its restart.
//
// # Reading order
//
// options.go, server.go, session.go, conn.go, sched.go, hub.go, job.go, ask.go,
// score.go, resample.go; then runs.go, trainrun.go, follow.go, evaluate.go, upload.go,
// saved.go; then http.go, security.go, limits.go, static.go, page.go, worker.go,
// metrics.go; then v1.go and what it names; bake.go writes what the page shows first.
package server
