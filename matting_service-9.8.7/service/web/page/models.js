// The choice of a network.

/** Fill a select with the models of the service; the default one is selected. */
export function fillModels(select, models) {
  const options = models.map((model) => new Option(model.name, model.name, model.default, model.default));
  select.replaceChildren(...options);
}
