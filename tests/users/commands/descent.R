# Gradient descent in R, with the base packages alone.
arguments <- commandArgs(trailingOnly = TRUE)
rate <- as.numeric(arguments[1])
saved <- file.path(Sys.getenv("ORCH_CHECKPOINT_DIR"), "state.rds")
hold <- Sys.getenv("USERS_HOLD")
state <- if (file.exists(saved)) readRDS(saved) else list(step = 0, x = c(4, -1.5, 2.5))
while (state$step < 8) {
  state$step <- state$step + 1
  state$x <- state$x - rate * seq_along(state$x) * tanh(state$x)
  saveRDS(state, paste0(saved, ".new"))
  invisible(file.rename(paste0(saved, ".new"), saved))
  cat(sprintf('{"step": %d, "loss": %.17g}\n', as.integer(state$step), sum(state$x^2)))
  flush(stdout())
  while (state$step == 2 && hold != "" && file.exists(hold)) Sys.sleep(0.05)
}
